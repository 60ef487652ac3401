"""Studies of a site without the site: traces in, points, hours, kilowatt-hours and euro out; no database, no real clock."""
