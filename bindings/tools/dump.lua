-- Build tool: a module as bytecode whose table constructors know their size.
--
-- LuaJIT makes a table of `{ x, a = y }` from a template that has room for its
-- items and keys, with nil where the value is not known before. A dump by a
-- LuaJIT of before 2024 leaves those out of the template: each table that loaded
-- bytecode makes would grow from nothing, key by key. Here they are put back into
-- the dump. (To load it may lose some again, since one key replaces another that
-- has nil in a place where both belong; but the room for all stays.)

local bit = require "bit"
local util = require "jit.util"
local vmdef = require "jit.vmdef"

-- Stands for nil while there is a template to be dumped, and what a dump has of
-- it: 5 and its length, as a ULEB128, then the text. Nil is the byte 0.
local NIL = "\1perigee: nil\1"
local DUMPED_NIL = string.char(5 + #NIL) .. NIL
local DST, BASE = 1, 2 -- what an instruction does to its register A

local function name_of(op)
  return (vmdef.bcnames:sub(op * 6 + 1, op * 6 + 6):gsub(" ", ""))
end

-- A table that a register holds is of its constructor until something else is
-- put there. A key too many does not matter: nil is what it has.
local function step(fn, made, ins, mode)
  local op = name_of(bit.band(ins, 0xff))
  local a, b = bit.band(bit.rshift(ins, 8), 0xff), bit.rshift(ins, 24)
  local c = bit.band(bit.rshift(ins, 16), 0xff)
  if made[b] and (op == "TSETS" or op == "TSETB") then
    local key = op == "TSETB" and c or util.funck(fn, -c - 1)
    if made[b][key] == nil then
      made[b][key] = NIL
    end
  elseif bit.band(mode, 7) == DST then
    made[a] = op == "TDUP" and util.funck(fn, -bit.rshift(ins, 16) - 1) or nil
  elseif bit.band(mode, 7) == BASE then
    for register in pairs(made) do
      made[register] = register < a and made[register] or nil
    end
  end
end

local function fill(fn)
  local made, pc = {}, 1
  local ins, mode = util.funcbc(fn, pc)
  while ins do
    step(fn, made, ins, mode)
    pc = pc + 1
    ins, mode = util.funcbc(fn, pc)
  end
  local index = -1
  local constant = util.funck(fn, index)
  while constant ~= nil do
    if type(constant) == "proto" then
      fill(constant)
    end
    index = index - 1
    constant = util.funck(fn, index)
  end
end

local function uleb128(n)
  local out = ""
  while n >= 128 do
    out = out .. string.char(128 + n % 128)
    n = math.floor(n / 128)
  end
  return out .. string.char(n)
end

local function read_uleb128(text, at)
  local n, factor = 0, 1
  while true do
    local byte = text:byte(at)
    n, at = n + byte % 128 * factor, at + 1
    if byte < 128 then
      return n, at
    end
    factor = factor * 128
  end
end

-- A dump is a header, with the name of the chunk, and prototypes, each with its
-- length before it; the length 0 ends it.
local function with_nils(dump)
  local _, at = read_uleb128(dump, 5) -- after ESC, L, J, the version: flags
  local length
  length, at = read_uleb128(dump, at)
  at = at + length
  local out = { dump:sub(1, at - 1) }
  length, at = read_uleb128(dump, at)
  while length > 0 do
    local proto = dump:sub(at, at + length - 1)
    local first, last = proto:find(DUMPED_NIL, 1, true)
    while first do
      proto = proto:sub(1, first - 1) .. "\0" .. proto:sub(last + 1)
      first, last = proto:find(DUMPED_NIL, first, true)
    end
    out[#out + 1] = uleb128(#proto)
    out[#out + 1] = proto
    length, at = read_uleb128(dump, at + length)
  end
  out[#out + 1] = "\0"
  return table.concat(out)
end

return function(fn)
  fill(fn)
  return with_nils(string.dump(fn))
end
