local common = require "schemas.common"

return {
  replay = common.object {
    source = common.source_name,
    subscription = common.uuid,
    event = common.uuid,
  },
  list = common.list(common.uuid, {
    source = common.source_name,
    subscription = common.uuid,
    event = common.uuid,
    status = {
      enum = { "new", "pending", "delivered", "dead", "skipped", "failed",
        "cancelled" },
    },
  }),
}
