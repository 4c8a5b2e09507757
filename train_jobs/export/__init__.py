"""Export of releases: merged weights, GGUF files and Ollama models, each compared with the adapter before it is kept.

`python -m train_jobs.export --recipe FILE`. The weights are read, merged and written one tensor at a time; only the comparison
(``parity``) needs the whole model in memory.
"""
