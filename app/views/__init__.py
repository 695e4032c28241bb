"""What each page shows, as data. A route fills one of these; HTML and JSON are two prints of it.

Nothing here formats: numbers are numbers, texts are plain text, addresses are made by `app.urls`.
"""
