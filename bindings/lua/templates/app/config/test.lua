--- For `perigee test`: a database of its own.

return {
  sqlite = {
    main = { path = ":memory:" },
  },
}
