local common = require "schemas.common"

return {
  list = common.list(common.uuid, {
    source = common.source_name,
    type = common.event_type,
    since_ms = common.time_ms,
    until_ms = common.time_ms,
  }),
}
