local errors = require "perigee.error"
local json = require "perigee.json"
local sqlite = require "perigee.sqlite"
local task = require "perigee.task"

local ENDLESS = "WITH RECURSIVE c(x) AS "
  .. "(SELECT 1 UNION ALL SELECT x + 1 FROM c) "

describe("perigee.sqlite", function()
  local db

  before_each(function()
    db = sqlite.get()
    assert(db:exec "DROP TABLE IF EXISTS spec_child")
    assert(db:exec "DROP TABLE IF EXISTS spec_item")
    assert(db:exec [[
      CREATE TABLE spec_item (
        id INTEGER PRIMARY KEY, name TEXT UNIQUE, v,
        n INTEGER CHECK (n > 0));
      CREATE TABLE spec_child (item INTEGER NOT NULL REFERENCES spec_item(id));
    ]])
  end)

  teardown(function()
    db:exec "DROP TABLE IF EXISTS spec_child"
    db:exec "DROP TABLE IF EXISTS spec_item"
  end)

  local function add(name, v)
    return db:exec("INSERT INTO spec_item(name, v) VALUES (?, ?)", name, v)
  end

  local function names()
    local list = {}
    for i, row in ipairs(db:query "SELECT name FROM spec_item ORDER BY id") do
      list[i] = row.name
    end
    return table.concat(list, " ")
  end

  describe("db:exec", function()
    it("tells how many rows it changed and the last id", function()
      assert.same({ changes = 1, last_id = 1 }, add "a")
      assert.same({ changes = 1, last_id = 2 }, add "b")
      assert.equal(2, db:exec("UPDATE spec_item SET v = 1").changes)
      assert.equal(0, db:exec("CREATE TABLE IF NOT EXISTS spec_item(x)").changes)
    end)

    it("runs several statements, all of them or none", function()
      local ok, err = db:exec [[
        INSERT INTO spec_item(name) VALUES ('x');
        INSERT INTO spec_item(name) VALUES ('x');
      ]]
      assert.is_nil(ok)
      assert.equal("conflict", err.kind)
      assert.equal("", names())
    end)

    it("undoes a change of megabytes as a whole", function()
      assert(db:exec(ENDLESS .. "INSERT INTO spec_item(v, n) "
        .. "SELECT printf('%0200d', x), x FROM c LIMIT 20000"))
      assert.equal(20000, db:exec("UPDATE spec_item SET v = 'a' || v").changes)
      local ok, err = db:exec "UPDATE spec_item SET v = 'b', n = 20000 - n"
      assert.is_nil(ok)
      assert.equal("invalid", err.kind)
      assert.equal(20000,
        db:one("SELECT count(*) AS n FROM spec_item WHERE v LIKE 'a%'").n)
    end)

    it("leaves transactions to db:transaction", function()
      assert.error_matches(function() db:exec "BEGIN" end, "db:transaction")
      assert.error_matches(function() db:exec " -- x\nCOMMIT" end,
        "db:transaction")
      assert.error_matches(function() db:exec "ATTACH 'x' AS y" end, "ATTACH")
      assert.error_matches(function() db:exec " " end, "empty")
      local ok, err = db:exec "INSERT INTO spec_item(name) VALUES ('a'); COMMIT"
      assert.is_nil(ok)
      assert.matches("db:transaction", err.message)
      assert.equal("", names())
    end)
  end)

  describe("values", function()
    it("come back as they went in", function()
      local function back(v)
        local row = assert(db:one("SELECT ? AS v", v))
        return row.v
      end
      assert.equal("text", back "text")
      assert.equal("a\0b", back "a\0b")
      assert.equal("", back "")
      assert.equal(1.5, back(1.5))
      assert.equal(-7, back(-7))
      assert.equal(2 ^ 53, back(2 ^ 53))
      assert.equal(1e300, back(1e300))
      assert.equal(1, back(true))
      assert.is_nil(back(nil))
      assert.is_nil(back(json.null))
      assert.equal(9007199254740993LL, back(9007199254740993LL))
      assert.equal(12, back(12LL))
      assert.equal("\0\1\255", back(sqlite.blob "\0\1\255"))
    end)

    it("have SQLite's types", function()
      local function type_of(v)
        return db:one("SELECT typeof(?) AS t", v).t
      end
      assert.equal("integer", type_of(3))
      assert.equal("real", type_of(3.5))
      assert.equal("real", type_of(2 ^ 60))
      assert.equal("text", type_of "3")
      assert.equal("blob", type_of(sqlite.blob "3"))
      assert.equal("blob", type_of(sqlite.blob ""))
      assert.equal("null", type_of(nil))
    end)

    it("are int64 where a number would not be exact", function()
      local row = db:one [[SELECT 9007199254740992 AS a,
        9007199254740993 AS b, -9223372036854775808 AS c]]
      assert.equal("number", type(row.a))
      assert.equal("9007199254740993LL", tostring(row.b))
      assert.equal("-9223372036854775808LL", tostring(row.c))
    end)

    it("that cannot be bound are a mistake", function()
      for _, v in ipairs { 0 / 0, 1 / 0, print } do
        assert.error_matches(function() db:query("SELECT ?", v) end,
          "cannot bind")
      end
      assert.error_matches(function() db:query("SELECT ?, ?", 1, {}) end,
        "parameter 2: cannot bind")
      assert.error_matches(function() db:query("SELECT :a", { a = {} }) end,
        "parameter a: cannot bind")
    end)
  end)

  describe("parameters", function()
    it("are bound by name from one table", function()
      local row = db:one("SELECT :a AS a, @b AS b, $c AS c, :d AS d",
        { a = 1, b = "x", c = json.null, unused = 5 })
      assert.same({ a = 1, b = "x" }, row)
    end)

    it("must be as many as the statement has", function()
      local rows, err = db:query("SELECT ?, ?", 1)
      assert.is_nil(rows)
      assert.equal("internal", err.kind)
      assert.equal("SQLITE_RANGE", err.code)
      assert.same({ a = 1 }, db:one("SELECT ? AS a, ? AS b", 1, nil))
    end)
  end)

  describe("rows", function()
    it("are a list, empty when there are none", function()
      assert.equal("[]", json.encode(db:query "SELECT 1 WHERE 0"))
      assert.equal('[{"x":1},{"x":2}]',
        json.encode(db:query "SELECT 1 AS x UNION SELECT 2"))
    end)

    it("are nil alone when db:one finds none", function()
      assert.equal(1, select("#", db:one "SELECT 1 WHERE 0"))
    end)

    it("come from RETURNING too", function()
      local row = db:one(
        "INSERT INTO spec_item(name) VALUES ('r') RETURNING id, name")
      assert.same({ id = 1, name = "r" }, row)
      local rows = db:query [[
        WITH x(v) AS (VALUES ('s'), ('t'))
        INSERT INTO spec_item(name) SELECT v FROM x RETURNING name]]
      assert.equal(2, #rows)
      assert.equal("r s t", names())
    end)

    it("beyond the limit are too_large", function()
      local rows, err = db:query(ENDLESS .. "SELECT x FROM c LIMIT 200000")
      assert.is_nil(rows)
      assert.equal("too_large", err.kind)
      assert.matches("rows_max", err.message)
    end)
  end)

  describe("errors", function()
    local function kind_of(sql, ...)
      local ok, err = db:exec(sql, ...)
      assert.is_nil(ok)
      assert.is_true(errors.is(err))
      return err.kind .. " " .. err.code
    end

    it("tell constraints apart", function()
      add "a"
      assert.equal("conflict SQLITE_CONSTRAINT_UNIQUE",
        kind_of "INSERT INTO spec_item(name) VALUES ('a')")
      assert.equal("conflict SQLITE_CONSTRAINT_PRIMARYKEY",
        kind_of "INSERT INTO spec_item(id) VALUES (1)")
      assert.equal("conflict SQLITE_CONSTRAINT_FOREIGNKEY",
        kind_of "INSERT INTO spec_child VALUES (99)")
      assert.equal("invalid SQLITE_CONSTRAINT_NOTNULL",
        kind_of "INSERT INTO spec_child VALUES (NULL)")
      assert.equal("invalid SQLITE_CONSTRAINT_CHECK",
        kind_of "INSERT INTO spec_item(n) VALUES (0)")
    end)

    it("take RESTRICT for the foreign key that it is", function()
      assert(db:exec [[
        DROP TABLE spec_child;
        CREATE TABLE spec_child (item INTEGER
          REFERENCES spec_item(id) ON DELETE RESTRICT ON UPDATE RESTRICT);
        INSERT INTO spec_item(id) VALUES (1);
        INSERT INTO spec_child VALUES (1)]])
      assert.equal("conflict SQLITE_CONSTRAINT_FOREIGNKEY",
        kind_of "DELETE FROM spec_item")
      assert.equal("conflict SQLITE_CONSTRAINT_FOREIGNKEY",
        kind_of "UPDATE spec_item SET id = 2")
    end)

    it("of SQL name the place", function()
      local rows, err = db:query "SELECT 1,\n  2 FORM t"
      assert.is_nil(rows)
      assert.equal("internal", err.kind)
      assert.matches('near "t": syntax error %(line 2', err.message)
      assert.equal("internal SQLITE_ERROR", kind_of "DELETE FROM nowhere")
    end)
  end)

  describe("db:transaction", function()
    it("keeps what the function did and gives its values", function()
      local a, b, c = db:transaction(function(tx)
        tx:exec "INSERT INTO spec_item(name) VALUES ('a')"
        assert.equal(1, tx:one("SELECT count(*) AS n FROM spec_item").n)
        assert.equal(0, db:one("SELECT count(*) AS n FROM spec_item").n)
        return "x", nil, 3
      end)
      assert.same({ "x", nil, 3 }, { a, b, c })
      assert.equal("a", names())
    end)

    it("is rolled back on nil and an error", function()
      local ok, err = db:transaction(function(tx)
        tx:exec "INSERT INTO spec_item(name) VALUES ('a')"
        return nil, errors.new("conflict", "no")
      end)
      assert.is_nil(ok)
      assert.equal("conflict", err.kind)
      assert.equal("", names())
    end)

    it("is rolled back when the function raises", function()
      local ok, err = pcall(db.transaction, db, function(tx)
        tx:exec "INSERT INTO spec_item(name) VALUES ('a')"
        error({ mine = true })
      end)
      assert.is_false(ok)
      assert.is_true(err.mine)
      assert.equal("", names())
    end)

    it("is rolled back when its task is overdue", function()
      local ok, err = task.with_deadline("50ms", function()
        return db:transaction(function(tx)
          tx:exec "INSERT INTO spec_item(name) VALUES ('a')"
          task.sleep "5s"
          return true
        end)
      end)
      assert.is_nil(ok)
      assert.equal("timeout", err.kind)
      assert.equal("", names())
      assert(add "b")
    end)

    it("is rolled back when its task is cancelled", function()
      local handle = task.spawn(function()
        return db:transaction(function(tx)
          tx:exec "INSERT INTO spec_item(name) VALUES ('a')"
          return tx:query(ENDLESS .. "SELECT count(*) FROM c")
        end)
      end)
      task.sleep "30ms"
      handle:cancel()
      local ok, err = handle:join()
      assert.is_nil(ok)
      assert.equal("cancelled", err.kind)
      assert(add "b")
      assert.equal("b", names())
    end)

    it("has the writer for itself", function()
      local order = {}
      local other = task.spawn(function()
        task.sleep "10ms"
        add "other"
        order[#order + 1] = "other"
      end)
      db:transaction(function(tx)
        task.sleep "40ms"
        tx:exec "INSERT INTO spec_item(name) VALUES ('tx')"
        order[#order + 1] = "tx"
        return true
      end)
      other:join()
      assert.same({ "tx", "other" }, order)
      assert.equal("tx other", names())
    end)

    it("refuses the database itself inside of it", function()
      db:transaction(function()
        assert.error_matches(function() add "a" end, "use what the function")
        assert.error_matches(function() db:transaction(print) end,
          "tx:transaction")
        return true
      end)
    end)

    it("cannot be used when it has ended", function()
      local kept
      db:transaction(function(tx) kept = tx return true end)
      assert.error_matches(function() kept:exec "DELETE FROM spec_item" end,
        "has ended")
    end)

    it("undoes an inner one alone", function()
      assert(db:transaction(function(tx)
        tx:exec "INSERT INTO spec_item(name) VALUES ('a')"
        local ok, err = tx:transaction(function()
          tx:exec "INSERT INTO spec_item(name) VALUES ('b')"
          return nil, "no"
        end)
        assert.is_nil(ok)
        assert.equal("no", err)
        assert.equal(5, tx:transaction(function(inner)
          inner:exec "INSERT INTO spec_item(name) VALUES ('c')"
          return inner:transaction(function() return 5 end)
        end))
        return true
      end))
      assert.equal("a c", names())
    end)

    it("goes on after a statement that failed", function()
      assert(db:transaction(function(tx)
        tx:exec "INSERT INTO spec_item(name) VALUES ('a')"
        local ok, err = tx:exec "INSERT INTO spec_item(name) VALUES ('a')"
        assert.is_nil(ok)
        assert.equal("conflict", err.kind)
        tx:exec "INSERT INTO spec_item(name) VALUES ('b')"
        return true
      end))
      assert.equal("a b", names())
    end)
  end)

  describe("waiting", function()
    it("ends a long query with its task", function()
      local rows, err = task.with_deadline("50ms", function()
        return db:query(ENDLESS .. "SELECT count(*) FROM c")
      end)
      assert.is_nil(rows)
      assert.equal("timeout", err.kind)
      assert.equal(1, db:one("SELECT 1 AS x").x)
    end)

    it("is shared: writes of many tasks become durable together", function()
      local ids = {}
      for i = 1, 200 do ids[i] = i end
      local before = sqlite.stats(db)
      assert(task.map(ids, function(i) return add("n" .. i) end))
      local after = sqlite.stats(db)
      assert.equal(200, after.writes - before.writes)
      assert.is_true(after.commits - before.commits < 100)
    end)

    it("tells a failing write of many alone", function()
      local list = task.map({ "a", "b", "a", "c" }, function(name)
        local ok, err = add(name)
        return ok and "ok" or err.kind
      end)
      assert.same({ "ok", "ok", "conflict", "ok" }, list)
    end)
  end)

  describe("sqlite.get", function()
    it("gives the same database each time", function()
      assert.equal(db, sqlite.get "main")
    end)

    it("names the setting that is missing", function()
      assert.error_matches(function() sqlite.get "nowhere" end,
        "sqlite.nowhere.path")
    end)
  end)
end)
