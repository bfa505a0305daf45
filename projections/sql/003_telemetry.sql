-- What nodes and attempts report while they live; rows expire by age.

CREATE TABLE heartbeats (
    seq BIGINT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    node_id VARCHAR NOT NULL,
    epoch BIGINT NOT NULL,
    running BIGINT NOT NULL,
    free BIGINT NOT NULL,
    cpu_percent DOUBLE NOT NULL,
    memory_free_bytes BIGINT NOT NULL,
    disk_free_bytes BIGINT NOT NULL,
    gpus VARCHAR NOT NULL
);
COMMENT ON TABLE heartbeats IS 'Reports of nodes; expire by age.';
COMMENT ON COLUMN heartbeats.seq IS 'Telemetry sequence.';
COMMENT ON COLUMN heartbeats.time IS 'When it was measured.';
COMMENT ON COLUMN heartbeats.node_id IS 'Node that reports.';
COMMENT ON COLUMN heartbeats.epoch IS 'Counts the starts of its worker.';
COMMENT ON COLUMN heartbeats.running IS 'Attempts that run.';
COMMENT ON COLUMN heartbeats.free IS 'Free slots.';
COMMENT ON COLUMN heartbeats.cpu_percent IS 'Load of the processor.';
COMMENT ON COLUMN heartbeats.memory_free_bytes IS 'Free memory.';
COMMENT ON COLUMN heartbeats.disk_free_bytes IS 'Free disk.';
COMMENT ON COLUMN heartbeats.gpus IS 'Load of each GPU, as a JSON list.';

CREATE TABLE progress (
    seq BIGINT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    job_id VARCHAR NOT NULL,
    attempt BIGINT NOT NULL,
    node VARCHAR NOT NULL,
    percent DOUBLE,
    out_time_s DOUBLE NOT NULL,
    frame BIGINT NOT NULL,
    fps DOUBLE NOT NULL,
    speed DOUBLE NOT NULL,
    bitrate_bps DOUBLE,
    size_bytes BIGINT,
    eta_s DOUBLE,
    dropped BIGINT NOT NULL
);
COMMENT ON TABLE progress IS 'Reports of running attempts; expire by age.';
COMMENT ON COLUMN progress.seq IS 'Telemetry sequence.';
COMMENT ON COLUMN progress.time IS 'When it was measured.';
COMMENT ON COLUMN progress.job_id IS 'Job that reports.';
COMMENT ON COLUMN progress.attempt IS 'Attempt that reports.';
COMMENT ON COLUMN progress.node IS 'Node it runs on.';
COMMENT ON COLUMN progress.percent IS 'How far it has come; NULL: not known.';
COMMENT ON COLUMN progress.out_time_s IS 'Seconds of media made.';
COMMENT ON COLUMN progress.frame IS 'Frames made.';
COMMENT ON COLUMN progress.fps IS 'Frames per second.';
COMMENT ON COLUMN progress.speed IS 'Seconds of media per second.';
COMMENT ON COLUMN progress.bitrate_bps IS 'Bits per second of the output; NULL: not known.';
COMMENT ON COLUMN progress.size_bytes IS 'Bytes made; NULL: not known.';
COMMENT ON COLUMN progress.eta_s IS 'Seconds to go; NULL: not known.';
COMMENT ON COLUMN progress.dropped IS 'Frames dropped.';
