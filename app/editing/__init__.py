"""Writing in the browser: who asks, and forms that are stored through `app.authored`.

Only where SAEFARI_EDITING is on; without it none of these addresses is there.
"""
