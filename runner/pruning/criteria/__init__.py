"""Criteria that members are ranked by, one per file; each is chosen by a file of conf/criterion."""
