return {
  cluster = { workers = "auto" },
}
