-- How far each stream has been read, and what could not be.

CREATE TABLE schema_version (
    fold INTEGER NOT NULL,
    digest VARCHAR NOT NULL
);
COMMENT ON TABLE schema_version IS 'Which schema and fold made this file; another one sets it aside and replays the log.';
COMMENT ON COLUMN schema_version.fold IS 'Version of the fold: what the rows mean.';
COMMENT ON COLUMN schema_version.digest IS 'Hash of the numbered SQL files.';

CREATE TABLE position (
    stream VARCHAR NOT NULL,
    seq BIGINT NOT NULL
);
INSERT INTO position VALUES ('ledger', 0), ('telemetry', 0);
COMMENT ON TABLE position IS 'The only truth about what has been read; moved in the transaction that wrote the rows.';
COMMENT ON COLUMN position.stream IS 'ledger or telemetry.';
COMMENT ON COLUMN position.seq IS 'Sequence of the last event in the tables; 0: none.';

CREATE TABLE parked (
    stream VARCHAR NOT NULL,
    seq BIGINT NOT NULL,
    time TIMESTAMPTZ NOT NULL,
    entity VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    raw VARCHAR NOT NULL
);
COMMENT ON TABLE parked IS 'Events that could not be folded; an entity of the ledger stays as it was before its parked event.';
COMMENT ON COLUMN parked.stream IS 'ledger or telemetry.';
COMMENT ON COLUMN parked.seq IS 'Sequence of the event in its stream.';
COMMENT ON COLUMN parked.time IS 'When it became true, by the writer''s clock.';
COMMENT ON COLUMN parked.entity IS 'Subject of the event.';
COMMENT ON COLUMN parked.reason IS 'What went wrong.';
COMMENT ON COLUMN parked.raw IS 'The event''s payload as it lies in the log.';
