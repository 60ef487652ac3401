"""All SQL. One file per noun; one method, one transaction."""
