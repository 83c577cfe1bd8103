return function() return print end
