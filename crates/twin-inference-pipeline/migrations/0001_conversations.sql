CREATE TABLE conversations (
    id         TEXT PRIMARY KEY NOT NULL,
    author     TEXT NOT NULL,
    title      TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

CREATE INDEX conversations_by_update ON conversations (updated_at DESC);

-- One row for each turn. What an answer was made of (release, prompt, passages, timings) is in `trace`, as JSON.
CREATE TABLE messages (
    id           INTEGER PRIMARY KEY,
    conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    role         TEXT NOT NULL,
    content      TEXT NOT NULL,
    trace        TEXT,
    created_at   TEXT NOT NULL
);

CREATE INDEX messages_by_conversation ON messages (conversation, id);
