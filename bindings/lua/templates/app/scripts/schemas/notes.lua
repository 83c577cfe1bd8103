--- Shapes of what comes in, as JSON Schema.

return {
  new = {
    type = "object",
    properties = {
      text = { type = "string", minLength = 1, maxLength = 2000 },
    },
    required = { "text" },
    additionalProperties = false,
  },
}
