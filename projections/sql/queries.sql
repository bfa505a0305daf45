-- The questions that people ask most, by name. A parameter that is NULL does not restrict.

-- name: jobs -- Jobs by status, queue and node, the newest first.
FROM jobs
WHERE ($status::VARCHAR IS NULL OR status = $status)
    AND ($queue::VARCHAR IS NULL OR queue = $queue)
    AND ($node::VARCHAR IS NULL OR node = $node)
ORDER BY job_no DESC
LIMIT $limit::BIGINT;

-- name: jobs_like -- The job with this id or number, or else at most two whose ids begin with it.
FROM jobs
WHERE starts_with(job_id, $reference) OR job_no = try_cast($reference AS BIGINT)
ORDER BY job_id = $reference DESC, job_no = try_cast($reference AS BIGINT) DESC NULLS LAST, job_no
LIMIT 2;

-- name: attempts -- All attempts of one job.
FROM attempts
WHERE job_no = $job_no::BIGINT
ORDER BY attempt;

-- name: timeline -- All facts of one job, in their order.
FROM audit
WHERE seq BETWEEN $first_seq::BIGINT AND $last_seq::BIGINT AND job_no = $first_seq::BIGINT
ORDER BY seq;

-- name: nodes -- All nodes that are still part of the fleet.
FROM nodes
WHERE status <> 'removed'
ORDER BY node_id;

-- name: node -- One node.
FROM nodes
WHERE node_id = $node_id::VARCHAR;

-- name: queue_depth -- Jobs that are not over, by queue and status.
FROM queue_depth
ORDER BY queue, status;

-- name: waits -- How long jobs assigned since an instant had waited for a node, by queue.
SELECT
    queue,
    count(*) AS jobs,
    quantile_cont(wait_s, 0.5) AS p50_s,
    quantile_cont(wait_s, 0.95) AS p95_s,
    quantile_cont(wait_s, 0.99) AS p99_s
FROM jobs
WHERE assigned_at >= coalesce($since::TIMESTAMPTZ, '-infinity'::TIMESTAMPTZ)
GROUP BY queue
ORDER BY queue;

-- name: fact_counts -- What is in the ledger?
SELECT type, count(*) AS events, min(seq) AS first_seq, max(seq) AS last_seq
FROM audit
GROUP BY type
ORDER BY events DESC, type;

-- name: decisions -- Why did each job run where it ran, and how long did it wait?
FROM assignments
ORDER BY seq
LIMIT $limit::BIGINT;

-- name: failures -- What was refused or failed, and why?
SELECT job_no, job_id, status, node, failure_class, failure_reason, ended_at
FROM jobs
WHERE status IN ('failed', 'rejected')
ORDER BY job_no
LIMIT $limit::BIGINT;
