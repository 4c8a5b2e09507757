"""What an attack on an agent looks like: text made plain (``plain``), patterns (``bank``), a trained classifier (``classifier``) and the
policies that say what is done about it (``policies``), put together in ``checks``.

It stops the common and the clumsy; it is no security boundary: who words an attack anew may pass it.
"""
