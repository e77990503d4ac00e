//! The server through its router, with an in-memory store, a scripted embedder and a scripted language model.

/// Questions and drafts on the API of the chat page: events, citations, abstaining, follow-ups.
mod ahead;
mod chat;
/// What is kept of conversations.
mod conversations;
/// The house that the tests are in.
mod fixture;
/// Requests that nobody should send: every field with every kind of nonsense.
mod fuzz;
/// Host names, origins, keys, limits, headers, and text that attacks the page.
mod guard;
/// The sockets: stopping, slow and vanished clients.
mod listen;
/// Tools of other programs: the Model Context Protocol.
mod mcp;
/// The API that OpenAI clients speak.
mod openai;
/// More than can be answered: limits, deadlines, readers that stall, contexts that are too long.
mod pressure;
/// Promoting, rolling back, splitting and shadowing under readers.
mod releases;
/// Answers of the chat page whose reader leaves, comes back, stalls or says stop.
mod resume;
/// What is kept and counted of answers.
mod sight;
