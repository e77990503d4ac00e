-- Which release a conversation goes with.
ALTER TABLE conversations ADD COLUMN release INTEGER;

-- How answers fared, by release: a rating, a copy, a request for another answer, the time it took, the distance to what was
-- published in the end. No text; a conversation that is deleted leaves these figures.
CREATE TABLE outcomes (
    id           INTEGER PRIMARY KEY,
    author       TEXT NOT NULL,
    release      INTEGER NOT NULL,
    conversation TEXT NOT NULL,
    kind         TEXT NOT NULL,
    value        REAL NOT NULL,
    at           TEXT NOT NULL
);

CREATE INDEX outcomes_by_author ON outcomes (author, at);

-- What a release answered that nobody saw, beside the answer that was seen.
CREATE TABLE shadows (
    id           INTEGER PRIMARY KEY,
    message      INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    author       TEXT NOT NULL,
    release      INTEGER NOT NULL,
    content      TEXT NOT NULL,
    trace        TEXT NOT NULL,
    created_at   TEXT NOT NULL
);
