--- JSON logs at info, no watcher, no internals in any answer. HOST=0.0.0.0 opens
--- it to the network.

return {}
