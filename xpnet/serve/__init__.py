"""A page to draw digits on, and the JSON API behind it (FastAPI; needs the extra `web`).

The rooms: `reader` (what a model says of pictures), `limits` (what every request must obey), `app` (the routes),
`static/` (the page). The command that starts it is `xpnet serve`.
"""
