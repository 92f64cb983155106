"""A page to draw digits on, and the JSON API behind it (FastAPI; needs the extra `web`).

The command `xpnet serve` starts it. The files: `reader` (what a model reads in images), `limits` (every limit of the
server), `guard` (the checks on each request), `protocol` (how long a connection may wait), `work` (the processes and
threads that open images and run the model), `question` (JSON from and for clients), `app` (the routes), `static/` (the
pages). For the page /network: `walk` (a pass, layer by layer), `unit` (one number as a sum), `maps` (arrays for
display), `walk_routes`. For /train: `training` and `learner`. For /text: `text` and `writer`.
"""
