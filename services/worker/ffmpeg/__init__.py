"""The media engine: plans an attempt, runs ffmpeg, proves what came out.

Pure: `encoders`, `plan`, `argv`, `progress`, `classify`. Hands: `paths` (files), `process` (the
only module that starts one), `inspect`, `locate`, and `executor`, which puts them together.
"""
