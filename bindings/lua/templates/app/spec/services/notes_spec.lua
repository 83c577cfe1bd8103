local notes = require "services.notes"

describe("notes.add", function()
  it("keeps a note that can be read again", function()
    local note = assert(notes.add("  buy tea "))
    assert.equal("buy tea", note.text)
    assert.same(note, notes.get(note.id))
  end)

  it("refuses a note without text", function()
    local note, err = notes.add("  ")
    assert.is_nil(note)
    assert.equal("unprocessable", err.kind)
  end)
end)

describe("notes.remove", function()
  it("says so when there is no such note", function()
    local removed, err = notes.remove("nothing")
    assert.is_nil(removed)
    assert.equal("not_found", err.kind)
  end)
end)
