return function(event) return { n = event.body.n + 1 } end
