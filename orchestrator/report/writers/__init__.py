"""One writer per format of the table: terminal, Markdown, LaTeX, HTML page, records for machines."""
