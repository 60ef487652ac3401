"""Class steering on a mixed fleet: premium GPU-hours that orders do not use where a cheaper class meets their needs."""
