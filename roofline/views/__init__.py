"""One module per output: table (terminal), text (JSON, CSV, Markdown), chart (PNG, SVG, PDF), page (HTML)."""
