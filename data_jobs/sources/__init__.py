"""What a person gives to an ingest becomes files: paths, repositories, Jira, addresses, object stores. One file per kind.

    gather(["docs/", "git+https://host/repo@v1.2", "jira+https://host?project=KB"], spool, settings.sources)

Everything that is no local path is brought into the spool first, a directory that belongs to one corpus; the rest of the pipeline sees
files only. On a cluster the spool must lie where every node reads it, as the given paths must.
"""

from data_jobs.sources.found import Found, Gathered
from data_jobs.sources.gather import gather

__all__ = ["Found", "Gathered", "gather"]
