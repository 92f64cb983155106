"""A page to draw digits on, and the JSON API behind it (FastAPI; needs the extra `web`).

The files: `reader` (what a model says of images), `limits` (every limit of the server), `guard` (what each request must
obey), `protocol` (how long a connection may wait), `work` (where images are opened and the model is asked), `question`
(what clients send), `app` (the routes), `static/` (the pages). For the walk through the network: `walk` (a pass, layer
by layer), `unit` (one number worked out), `maps` (arrays to look at), `walk_routes`. The command that starts it is
`xpnet serve`.
"""
