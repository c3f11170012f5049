"""The wire contract: messages, subjects, codec, errors. The registry and every client of ours share it."""
