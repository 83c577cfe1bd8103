--- The body of POST /echo.

return {
  type = "object",
  required = { "name" },
  properties = { name = { type = "string" } },
}
