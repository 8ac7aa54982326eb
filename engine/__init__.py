"""The engine: what decides (`core`), what remembers (`store`, `blobs`) and what drives runs (`runs`)."""
