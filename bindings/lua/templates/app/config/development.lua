--- For the machine you write on: pretty logs, reload on save.

return {}
