--- The event in an envelope that says where it is from, for receivers that
--- take events of several sources.

return function(event)
  return {
    id = event.id,
    source = event.source,
    type = event.type,
    received_at_ms = event.received_at_ms,
    data = event.body,
  }
end
