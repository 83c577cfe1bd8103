--- As production, with every request traced.

return {}
