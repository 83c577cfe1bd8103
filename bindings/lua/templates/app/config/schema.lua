--- What `app` may hold: a JSON Schema. Wrong values stop the start.

return {
  type = "object",
  properties = {
    name = { type = "string", minLength = 1 },
    notes = {
      type = "object",
      properties = {
        page_size = { type = "integer", minimum = 1, maximum = 500 },
      },
      required = { "page_size" },
      additionalProperties = false,
    },
  },
  required = { "name", "notes" },
  additionalProperties = false,
}
