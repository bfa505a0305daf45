-- What the ledger amounts to. No keys and no indexes: facts are written once, by one writer.

CREATE TABLE audit (
    seq BIGINT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    type VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    entity VARCHAR NOT NULL,
    job_no BIGINT,
    attempt BIGINT,
    node VARCHAR,
    source VARCHAR NOT NULL,
    event_id VARCHAR NOT NULL,
    traceparent VARCHAR,
    payload VARCHAR NOT NULL,
    problem VARCHAR
);
COMMENT ON TABLE audit IS 'Every event of the ledger, once.';
COMMENT ON COLUMN audit.seq IS 'Ledger sequence; contiguous from 1.';
COMMENT ON COLUMN audit.time IS 'When it became true, by the writer''s clock.';
COMMENT ON COLUMN audit.type IS 'What became true, as job.assigned.v1; empty when the event could not be read at all.';
COMMENT ON COLUMN audit.kind IS 'Kind of entity: job, node, access or cluster.';
COMMENT ON COLUMN audit.entity IS 'Id of the job, node or other entity.';
COMMENT ON COLUMN audit.job_no IS 'Number of the job; NULL: not a job''s, or of a job that was never submitted.';
COMMENT ON COLUMN audit.attempt IS 'Attempt the fact is about; NULL: none.';
COMMENT ON COLUMN audit.node IS 'Node the fact is about; NULL: none.';
COMMENT ON COLUMN audit.source IS 'Who wrote it, as worker/n1.';
COMMENT ON COLUMN audit.event_id IS 'Unique id of the event.';
COMMENT ON COLUMN audit.traceparent IS 'W3C trace context; NULL: not traced.';
COMMENT ON COLUMN audit.payload IS 'The fact as it lies in the log: JSON text.';
COMMENT ON COLUMN audit.problem IS 'Why this version cannot read the event; NULL: it can.';

CREATE TABLE jobs_hot (
    job_no BIGINT NOT NULL,
    job_id VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    queue VARCHAR NOT NULL,
    priority VARCHAR NOT NULL,
    tenant VARCHAR NOT NULL,
    scenario VARCHAR,
    engine VARCHAR NOT NULL,
    classification VARCHAR,
    labels MAP(VARCHAR, VARCHAR) NOT NULL,
    depends_on VARCHAR[],
    input VARCHAR,
    attempts_max INTEGER NOT NULL,
    deadline TIMESTAMPTZ,
    node VARCHAR,
    attempt BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    crashes BIGINT NOT NULL,
    cancel_requested BOOLEAN NOT NULL,
    promoted BOOLEAN NOT NULL,
    poison BOOLEAN NOT NULL,
    failure_class VARCHAR,
    failure_reason VARCHAR,
    exit_status BIGINT,
    submitted_at TIMESTAMPTZ NOT NULL,
    not_before TIMESTAMPTZ,
    queued_at TIMESTAMPTZ,
    assigned_at TIMESTAMPTZ,
    started_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    wait_s DOUBLE NOT NULL,
    run_s DOUBLE,
    paused_s DOUBLE NOT NULL,
    progress_percent DOUBLE,
    progress_at TIMESTAMPTZ,
    eta_s DOUBLE,
    out_time_s DOUBLE,
    fps DOUBLE,
    speed DOUBLE,
    size_bytes BIGINT,
    frames BIGINT,
    wall_s DOUBLE,
    cpu_s DOUBLE,
    encoder VARCHAR,
    outputs VARCHAR[],
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL
);
COMMENT ON TABLE jobs_hot IS 'Jobs that may still change, and those that were over lately; read the view jobs.';
COMMENT ON COLUMN jobs_hot.job_no IS 'Ledger sequence of the submission: the job''s number.';
COMMENT ON COLUMN jobs_hot.job_id IS 'The job''s id.';
COMMENT ON COLUMN jobs_hot.status IS 'pending, queued, assigned, processing, paused, completed, failed, canceled or rejected.';
COMMENT ON COLUMN jobs_hot.queue IS 'Service class: live, default or batch.';
COMMENT ON COLUMN jobs_hot.priority IS 'Rank inside the queue: high, medium or low.';
COMMENT ON COLUMN jobs_hot.tenant IS 'Who pays.';
COMMENT ON COLUMN jobs_hot.scenario IS 'Size, rate and codec in one word; NULL: not given.';
COMMENT ON COLUMN jobs_hot.engine IS 'What was asked to run it: auto, ffmpeg, gstreamer or noop.';
COMMENT ON COLUMN jobs_hot.classification IS 'What it counts as in reports; NULL: not given.';
COMMENT ON COLUMN jobs_hot.labels IS 'The submitter''s own labels.';
COMMENT ON COLUMN jobs_hot.depends_on IS 'Ids of the jobs it waits for; NULL: none.';
COMMENT ON COLUMN jobs_hot.input IS 'Path or URL of the input; NULL: a generated test source.';
COMMENT ON COLUMN jobs_hot.attempts_max IS 'How many attempts may fail before the job does.';
COMMENT ON COLUMN jobs_hot.deadline IS 'When it should be done; NULL: whenever.';
COMMENT ON COLUMN jobs_hot.node IS 'Node that has it, or had it last when it is over; NULL while it waits.';
COMMENT ON COLUMN jobs_hot.attempt IS 'Assignments so far.';
COMMENT ON COLUMN jobs_hot.failures IS 'Attempts that failed by themselves.';
COMMENT ON COLUMN jobs_hot.crashes IS 'Attempts that were lost with their node.';
COMMENT ON COLUMN jobs_hot.cancel_requested IS 'Somebody asked to end it.';
COMMENT ON COLUMN jobs_hot.promoted IS 'Its files have their final names, or it has none.';
COMMENT ON COLUMN jobs_hot.poison IS 'It failed because too many of its attempts were lost with their nodes.';
COMMENT ON COLUMN jobs_hot.failure_class IS 'Kind of the last failure: a failure class, or why the attempt was lost; NULL: none, or healed.';
COMMENT ON COLUMN jobs_hot.failure_reason IS 'Why it failed, was canceled or rejected, in words; NULL: it was not.';
COMMENT ON COLUMN jobs_hot.exit_status IS 'Exit status of the last failed encoder; negative: the signal; NULL: none.';
COMMENT ON COLUMN jobs_hot.submitted_at IS 'When it was submitted.';
COMMENT ON COLUMN jobs_hot.not_before IS 'Earliest start while it is pending; NULL: no such limit.';
COMMENT ON COLUMN jobs_hot.queued_at IS 'When it last became assignable; NULL: never yet.';
COMMENT ON COLUMN jobs_hot.assigned_at IS 'When its last attempt was assigned; NULL: never yet.';
COMMENT ON COLUMN jobs_hot.started_at IS 'When its last attempt was started; NULL: not yet.';
COMMENT ON COLUMN jobs_hot.ended_at IS 'When the job was over; NULL: not yet.';
COMMENT ON COLUMN jobs_hot.wait_s IS 'Seconds it waited for a node in all, up to its last assignment.';
COMMENT ON COLUMN jobs_hot.run_s IS 'Seconds from start to end of its last attempt, pauses included; NULL: not ended.';
COMMENT ON COLUMN jobs_hot.paused_s IS 'Seconds its last attempt stood still.';
COMMENT ON COLUMN jobs_hot.progress_percent IS 'How far the last attempt has come; NULL: not known.';
COMMENT ON COLUMN jobs_hot.progress_at IS 'When that was reported; NULL: never.';
COMMENT ON COLUMN jobs_hot.eta_s IS 'Seconds to go at that time; NULL: not known.';
COMMENT ON COLUMN jobs_hot.out_time_s IS 'Seconds of media made by the last attempt; NULL: not known.';
COMMENT ON COLUMN jobs_hot.fps IS 'Frames per second of the last attempt; NULL: not known.';
COMMENT ON COLUMN jobs_hot.speed IS 'Seconds of media per second of the last attempt; NULL: not known.';
COMMENT ON COLUMN jobs_hot.size_bytes IS 'Bytes made by the last attempt; NULL: not known.';
COMMENT ON COLUMN jobs_hot.frames IS 'Frames made by the last attempt; NULL: not ended.';
COMMENT ON COLUMN jobs_hot.wall_s IS 'Seconds the encoder took; NULL: not ended.';
COMMENT ON COLUMN jobs_hot.cpu_s IS 'CPU seconds of the encoder; NULL: not ended.';
COMMENT ON COLUMN jobs_hot.encoder IS 'Encoder that was used; NULL: not ended.';
COMMENT ON COLUMN jobs_hot.outputs IS 'Final names of the files made; NULL: not completed.';
COMMENT ON COLUMN jobs_hot.first_seq IS 'Ledger sequence of its first fact.';
COMMENT ON COLUMN jobs_hot.last_seq IS 'Ledger sequence of its last readable fact.';

CREATE TABLE jobs_cold AS FROM jobs_hot LIMIT 0;
COMMENT ON TABLE jobs_cold IS 'Jobs that are over; read the view jobs.';

CREATE TABLE attempts_ended (
    job_no BIGINT NOT NULL,
    job_id VARCHAR NOT NULL,
    attempt BIGINT NOT NULL,
    node VARCHAR NOT NULL,
    assigned_at TIMESTAMPTZ NOT NULL,
    started_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    outcome VARCHAR NOT NULL,
    failure_class VARCHAR,
    message VARCHAR,
    exit_status BIGINT,
    run_s DOUBLE,
    wall_s DOUBLE,
    cpu_s DOUBLE,
    frames BIGINT,
    fps DOUBLE,
    speed DOUBLE,
    encoder VARCHAR
);
COMMENT ON TABLE attempts_ended IS 'Attempts that are over and did not complete their job; read the view attempts.';
COMMENT ON COLUMN attempts_ended.job_no IS 'Number of the job.';
COMMENT ON COLUMN attempts_ended.job_id IS 'Id of the job.';
COMMENT ON COLUMN attempts_ended.attempt IS 'Counts the job''s assignments from 1.';
COMMENT ON COLUMN attempts_ended.node IS 'Node it was given to.';
COMMENT ON COLUMN attempts_ended.assigned_at IS 'When it was assigned.';
COMMENT ON COLUMN attempts_ended.started_at IS 'When it was started; NULL: never.';
COMMENT ON COLUMN attempts_ended.ended_at IS 'When it was over; NULL: not yet.';
COMMENT ON COLUMN attempts_ended.outcome IS 'failed, lost, declined or canceled; in the view also completed, assigned, processing, paused.';
COMMENT ON COLUMN attempts_ended.failure_class IS 'Failure class, or why it was lost; NULL: neither.';
COMMENT ON COLUMN attempts_ended.message IS 'The encoder''s own words, or why it was declined; NULL: none.';
COMMENT ON COLUMN attempts_ended.exit_status IS 'Exit status of the encoder; negative: the signal; NULL: none.';
COMMENT ON COLUMN attempts_ended.run_s IS 'Seconds from start to end; NULL: not started or not ended.';
COMMENT ON COLUMN attempts_ended.wall_s IS 'Seconds the encoder took; NULL: not told.';
COMMENT ON COLUMN attempts_ended.cpu_s IS 'CPU seconds of the encoder; NULL: not told.';
COMMENT ON COLUMN attempts_ended.frames IS 'Frames made; NULL: not told.';
COMMENT ON COLUMN attempts_ended.fps IS 'Frames per second; NULL: not told.';
COMMENT ON COLUMN attempts_ended.speed IS 'Seconds of media per second; NULL: not told.';
COMMENT ON COLUMN attempts_ended.encoder IS 'Encoder that was used; NULL: not told.';

CREATE TABLE nodes (
    node_id VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    schedulable BOOLEAN NOT NULL,
    cordoned BOOLEAN NOT NULL,
    draining BOOLEAN NOT NULL,
    ordered_by VARCHAR NOT NULL,
    order_reason VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    refusing VARCHAR NOT NULL,
    circuit VARCHAR NOT NULL,
    circuit_until TIMESTAMPTZ,
    circuit_reason VARCHAR NOT NULL,
    epoch BIGINT NOT NULL,
    slots BIGINT NOT NULL,
    free BIGINT NOT NULL,
    running BIGINT,
    capabilities VARCHAR[] NOT NULL,
    hostname VARCHAR NOT NULL,
    cpu_model VARCHAR NOT NULL,
    cpu_threads BIGINT NOT NULL,
    memory_bytes BIGINT NOT NULL,
    disk_bytes BIGINT NOT NULL,
    gpus VARCHAR[] NOT NULL,
    encoder_sessions BIGINT NOT NULL,
    ffmpeg VARCHAR NOT NULL,
    address VARCHAR NOT NULL,
    fingerprint VARCHAR NOT NULL,
    worker_version VARCHAR NOT NULL,
    registered_at TIMESTAMPTZ,
    last_seen TIMESTAMPTZ,
    cpu_percent DOUBLE,
    memory_free_bytes BIGINT,
    disk_free_bytes BIGINT,
    first_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    state VARCHAR NOT NULL
);
COMMENT ON TABLE nodes IS 'Every node that a fact was ever about.';
COMMENT ON COLUMN nodes.node_id IS 'The node''s id.';
COMMENT ON COLUMN nodes.status IS 'unknown, online, suspected, lost, drained, removed or refused.';
COMMENT ON COLUMN nodes.schedulable IS 'New work may be given to it.';
COMMENT ON COLUMN nodes.cordoned IS 'It gets nothing new; what runs goes on.';
COMMENT ON COLUMN nodes.draining IS 'It finishes what runs and then stops.';
COMMENT ON COLUMN nodes.ordered_by IS 'Who cordoned or drained it last; empty: nobody, or not told.';
COMMENT ON COLUMN nodes.order_reason IS 'Why; empty: not told.';
COMMENT ON COLUMN nodes.reason IS 'Why it is suspected, lost or refused; empty: it is none of these.';
COMMENT ON COLUMN nodes.refusing IS 'Why its worker takes nothing new for now; empty: it takes what fits.';
COMMENT ON COLUMN nodes.circuit IS 'closed: it gets work; open: none until circuit_until; half_open: one attempt at a time.';
COMMENT ON COLUMN nodes.circuit_until IS 'When an open circuit is tried again; NULL: it is not open.';
COMMENT ON COLUMN nodes.circuit_reason IS 'Why the circuit was opened; empty: it is closed.';
COMMENT ON COLUMN nodes.epoch IS 'Counts the starts of its worker; 0: none has registered.';
COMMENT ON COLUMN nodes.slots IS 'Attempts at once.';
COMMENT ON COLUMN nodes.free IS 'Free slots as the worker last reported them.';
COMMENT ON COLUMN nodes.running IS 'Attempts that run, by the last heartbeat; NULL: none came.';
COMMENT ON COLUMN nodes.capabilities IS 'What it can do, sorted.';
COMMENT ON COLUMN nodes.hostname IS 'Name of the machine; empty: not told.';
COMMENT ON COLUMN nodes.cpu_model IS 'Processor; empty: not told.';
COMMENT ON COLUMN nodes.cpu_threads IS 'Threads of the processor.';
COMMENT ON COLUMN nodes.memory_bytes IS 'Memory; 0: not told.';
COMMENT ON COLUMN nodes.disk_bytes IS 'Size of the work directory''s file system; 0: not told.';
COMMENT ON COLUMN nodes.gpus IS 'Names of the GPUs, by index.';
COMMENT ON COLUMN nodes.encoder_sessions IS 'Hardware encodes at once that each GPU can do; 0: none, or not told.';
COMMENT ON COLUMN nodes.ffmpeg IS 'Version of ffmpeg; empty: not told.';
COMMENT ON COLUMN nodes.address IS 'Where the node''s own endpoints are, as host:port; empty: not told.';
COMMENT ON COLUMN nodes.fingerprint IS 'Tells its machine and work directory from others; empty: not told.';
COMMENT ON COLUMN nodes.worker_version IS 'Version of the worker; empty: not told.';
COMMENT ON COLUMN nodes.registered_at IS 'When its worker last registered; NULL: never.';
COMMENT ON COLUMN nodes.last_seen IS 'When it last registered or sent a heartbeat; NULL: never.';
COMMENT ON COLUMN nodes.cpu_percent IS 'Load of the processor by the last heartbeat; NULL: none came.';
COMMENT ON COLUMN nodes.memory_free_bytes IS 'Free memory by the last heartbeat; NULL: none came.';
COMMENT ON COLUMN nodes.disk_free_bytes IS 'Free disk by the last heartbeat; NULL: none came.';
COMMENT ON COLUMN nodes.first_seq IS 'Ledger sequence of its first fact.';
COMMENT ON COLUMN nodes.last_seq IS 'Ledger sequence of its last readable fact.';
COMMENT ON COLUMN nodes.state IS 'What the fold resumes from, as JSON; not for readers.';
