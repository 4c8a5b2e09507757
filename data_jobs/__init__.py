"""Ray Data. Documents, conversations and signals in; corpora and datasets out."""
