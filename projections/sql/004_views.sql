-- What people ask for by name.

CREATE VIEW jobs AS FROM jobs_hot UNION ALL BY NAME FROM jobs_cold;
COMMENT ON VIEW jobs IS 'Every job that was submitted or rejected, once.';

CREATE VIEW jobs_active AS
FROM jobs_hot
WHERE status IN ('pending', 'queued', 'assigned', 'processing', 'paused');
COMMENT ON VIEW jobs_active IS 'Jobs that are not over; fast however many there were.';

CREATE VIEW jobs_done AS
FROM jobs
WHERE status IN ('completed', 'failed', 'canceled', 'rejected');
COMMENT ON VIEW jobs_done IS 'Jobs that are over.';

CREATE VIEW attempts AS
FROM attempts_ended
UNION ALL BY NAME
SELECT
    job_no, job_id, attempt, node, assigned_at, started_at, ended_at, 'completed' AS outcome,
    run_s, wall_s, cpu_s, frames, fps, speed, encoder
FROM jobs
WHERE status = 'completed'
UNION ALL BY NAME
SELECT job_no, job_id, attempt, node, assigned_at, started_at, status AS outcome
FROM jobs_active
WHERE status IN ('assigned', 'processing', 'paused');
COMMENT ON VIEW attempts IS 'Every attempt of every job; of a running one the outcome is the job''s status.';

CREATE VIEW assignments AS
SELECT
    audit.seq,
    audit.time,
    audit.job_no,
    jobs.job_id,
    audit.attempt,
    audit.node,
    jobs.queue,
    jobs.priority,
    coalesce((payload ->> '$.placement.weight')::DOUBLE, 0) AS weight,
    coalesce((payload ->> '$.placement.waited_s')::DOUBLE, 0) AS waited_s,
    coalesce(try_cast(payload ->> '$.placement.candidates' AS BIGINT), 0) AS candidates,
    coalesce(try_cast(payload ->> '$.placement.free' AS BIGINT), 0) AS free,
    payload ->> '$.placement.runner_up' AS runner_up
FROM audit
JOIN jobs USING (job_no)
WHERE type = 'job.assigned.v1' AND problem IS NULL;
COMMENT ON VIEW assignments IS 'Every decision to give a job to a node, with its reason; queue and priority are the job''s present ones, runner_up NULL: there was none.';

CREATE VIEW queue_depth AS
SELECT queue, status, count(*) AS jobs, min(coalesce(queued_at, submitted_at)) AS oldest_at
FROM jobs_active
GROUP BY ALL;
COMMENT ON VIEW queue_depth IS 'Jobs that are not over, by queue and status; oldest_at: when the oldest began to wait.';

CREATE VIEW node_changes AS
SELECT
    seq,
    time,
    entity AS node_id,
    regexp_extract(type, '^node\.(\w+)\.v\d+$', 1) AS change,
    source,
    payload ->> '$.by' AS actor,
    payload ->> '$.reason' AS reason,
    payload
FROM audit
WHERE kind = 'node'
    AND problem IS NULL
    AND type NOT IN ('node.available.v1', 'node.assignments.v1', 'node.signal.v1');
COMMENT ON VIEW node_changes IS 'What became of nodes: starts, losses, cordons, drains, circuits; not what they were given or reported.';

CREATE VIEW cluster_changes AS
SELECT
    seq,
    time,
    entity AS topic,
    regexp_extract(type, '^cluster\.(\w+)\.v\d+$', 1) AS change,
    source,
    payload ->> '$.by' AS actor,
    payload ->> '$.reason' AS reason,
    payload ->> '$.scheduler' AS scheduler,
    if(type = 'cluster.policy_changed.v1', coalesce(payload ->> '$.policy.kind', 'weighted'), NULL)
        AS policy,
    payload
FROM audit
WHERE kind = 'cluster' AND problem IS NULL;
COMMENT ON VIEW cluster_changes IS 'What changed for the whole fleet: policies and leaders.';

CREATE VIEW submissions AS
SELECT
    seq,
    time,
    entity AS job_id,
    type = 'job.submitted.v1' AS accepted,
    source,
    payload ->> '$.via' AS via,
    coalesce(payload ->> '$.spec.queue', 'default') AS queue,
    coalesce(payload ->> '$.spec.priority', 'medium') AS priority,
    coalesce(payload ->> '$.spec.tenant', 'default') AS tenant,
    payload ->> '$.spec.scenario' AS scenario,
    payload ->> '$.reason' AS reason
FROM audit
WHERE type IN ('job.submitted.v1', 'job.rejected.v1');
COMMENT ON VIEW submissions IS 'What was asked for, by whom, and whether it was accepted; from the audit.';
