"""Reads uploaded documents: text, Markdown, HTML, PDF and DOCX become text with headings and pages."""
