"""The HTTP server: routes, what they take and give, the way to the engine, and the voices that it keeps."""
