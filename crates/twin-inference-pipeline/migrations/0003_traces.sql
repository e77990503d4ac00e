-- What answers were made of that belong to no conversation here, since their clients keep their own. The newest only.
CREATE TABLE traces (
    id         INTEGER PRIMARY KEY,
    author     TEXT NOT NULL,
    asked      TEXT NOT NULL,
    content    TEXT NOT NULL,
    trace      TEXT NOT NULL,
    created_at TEXT NOT NULL
);

-- Both kinds of answers with what was asked before them.
CREATE VIEW all_traces AS
    SELECT 'chat' AS kind, m.id AS id, c.author AS author, m.content AS content, m.trace AS trace, m.created_at AS created_at,
        coalesce(
            (SELECT q.content FROM messages q WHERE q.conversation = m.conversation AND q.role = 'user' AND q.id < m.id
             ORDER BY q.id DESC LIMIT 1), '') AS asked
    FROM messages m JOIN conversations c ON c.id = m.conversation WHERE m.trace IS NOT NULL
    UNION ALL
    SELECT 'api', id, author, content, trace, created_at, asked FROM traces;
