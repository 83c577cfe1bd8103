--- Lets in who knows app.token; everyone when there is none.

local config = require "perigee.config"
local crypto = require "perigee.crypto"
local http = require "perigee.http"

local token = config.app.token
-- Of equal length whatever is given, so that comparing tells nothing.
local expected = token and crypto.sha256(token)

return function(req, next_)
  if expected then
    local given = (req:header "authorization" or ""):match "^[Bb]earer%s+(.+)$"
    if not given or not crypto.equal(crypto.sha256(given), expected) then
      return http.problem {
        status = 401,
        detail = "a bearer token is needed",
        headers = { ["www-authenticate"] = "Bearer" },
      }
    end
  end
  return next_(req)
end
