"""Judge uploaded videos over HTTP: an API, a queue that survives its processes, workers, and the page (docs/service.md).

    settings.py  every limit and address, from VISAVOX_SERVICE_* or the command line
    api.py       the routes; guard.py stands before them; uploads.py takes a video in; events.py tells how it goes
    store.py     what a queue promises; sqlite_store.py and rq_store.py keep it
    folder.py    uploads and results on disk, from which a lost queue is made again
    worker.py    takes jobs from the queue; child.py is the process that decodes and judges (perform.py); crew.py starts workers

One way only: api -> folder, store -> worker -> child -> `visavox.detectors.single.analyse`, the same that the page of one video
and `visavox score` use.
"""
