"""Server-rendered pages for people: the same actions as the API, one file per noun, readable without JavaScript."""
