local common = require "schemas.common"

return {
  list = common.list(common.uuid, {
    source = common.source_name,
    subscription = common.uuid,
    event = common.uuid,
    status = {
      enum = { "new", "pending", "skipped", "failed", "cancelled" },
    },
  }),
}
