"""SQLAlchemy's only home. One transaction per request or job; rows stay inside, domain types go out.

catalog = Catalog(settings.catalog_url)
with catalog.transaction() as work:
    agents.save(work, agent)
"""

from cluster.catalog.transaction import Catalog, Work

__all__ = ["Catalog", "Work"]
