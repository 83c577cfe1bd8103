/* JSON decode: from text to Lua values, RFC 8259 to the letter.
 *
 * Values gather on the Lua stack until their list or object ends, so that its
 * table is made once in its final size; a long one, or one that lies deep, is
 * filled as it goes. */
#include "bindings/json.h"
#include "bindings/json_marks.h"
#include "core/base/json_scan.h"
#include "core/base/json_unescape.h"
#include "core/base/number.h"
#include "core/base/utf8.h"

#include <math.h>

#define GATHER_ITEMS 64     /* values of a list kept on the stack */
#define GATHER_PAIRS 32     /* fields of an object, two slots each */
#define FIRST_ITEMS 16      /* of them: most lists and objects are shorter, */
#define FIRST_PAIRS 8       /* and a stack that grows is copied */
#define GATHER_DEPTH 32     /* below it nothing is gathered: 8000 slots */
#define SHORT_INTEGER 15    /* digits that are exact in any case */
#define UNESCAPE_BYTES 1024 /* longer texts get memory from Lua */

typedef struct decoder {
    lua_State *L;
    const char *start;
    const char *at;
    const char *end;
    int depth;
    int depth_max;
} decoder;

static int decode_value(decoder *d);

static int fail(decoder *d, const char *at, const char *what)
{
    lua_checkstack(d->L, 2);
    lua_pushfstring(d->L, "%s at byte %d", what, (int)(at - d->start) + 1);
    return PERI_EFORMAT;
}

/* What the text has at at instead of what was expected. */
static int fail_expected(decoder *d, const char *expected)
{
    lua_checkstack(d->L, 4);
    if (d->at >= d->end) {
        lua_pushfstring(d->L, "the text ends where %s is expected", expected);
    } else {
        lua_pushfstring(d->L, "%s is expected", expected);
    }
    return fail(d, d->at, lua_tostring(d->L, -1));
}

static void skip_space(decoder *d)
{
    const char *at = d->at;

    while (at < d->end && (unsigned char)*at <= ' ' &&
           (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) {
        at++;
    }
    d->at = at;
}

/* The closing quote of the string whose rest is [at, end), or end. */
static const char *find_quote(const char *at, const char *end)
{
    while (at < end) {
        at = peri_json_skip_quoted(at, end);
        if (at == end || *at == '"') {
            return at;
        }
        at += *at == '\\' && end - at > 1 ? 2 : 1;
    }
    return end;
}

/* A string with escapes; special is where it stops to be plain. */
static int decode_escaped(decoder *d, const char *start, const char *special)
{
    lua_State *L = d->L;
    const char *quote = find_quote(special, d->end);
    size_t room_bytes = (size_t)(quote - start);
    char room[UNESCAPE_BYTES];
    const char *why;
    const char *at;
    char *out = room;
    char *to;

    if (quote == d->end) {
        return fail(d, d->end, "the text ends within a string");
    }
    if (room_bytes > sizeof room) {
        out = lua_newuserdata(L, room_bytes);
    }
    memcpy(out, start, (size_t)(special - start));
    to = out + (special - start);
    at = peri_json_unescape(special, quote, &to, &why);
    if (at != quote) {
        return fail(d, at, why);
    }
    lua_pushlstring(L, out, (size_t)(to - out));
    if (out != room) {
        lua_replace(L, -2);
    }
    d->at = quote + 1;
    return 0;
}

/* A string that is not plain from special on. */
static int decode_special(decoder *d, const char *start, const char *special)
{
    const char *end = peri_json_skip_quoted(special, d->end);
    size_t length = (size_t)(end - special);
    size_t sound = peri_utf8_span(special, length);

    if (sound != length) {
        return fail(d, special + sound, "a string that is not UTF-8");
    }
    if (end == d->end) {
        return fail(d, end, "the text ends within a string");
    }
    if (*end == '\\') {
        return decode_escaped(d, start, end);
    }
    if (*end != '"') {
        return fail(d, end, "a control character in a string");
    }
    lua_pushlstring(d->L, start, (size_t)(end - start));
    d->at = end + 1;
    return 0;
}

/* at is behind the opening quote. */
static int decode_string(decoder *d)
{
    const char *start = d->at;
    const char *at = peri_json_skip_plain(start, d->end);

    if (at < d->end && *at == '"') {
        lua_pushlstring(d->L, start, (size_t)(at - start));
        d->at = at + 1;
        return 0;
    }
    if (at == d->end) {
        return fail(d, at, "the text ends within a string");
    }
    return decode_special(d, start, at);
}

static int fail_number(decoder *d)
{
    const char *at = d->at + (*d->at == '-');

    if (at < d->end && *at == '0' && d->end - at > 1 && at[1] >= '0' &&
        at[1] <= '9') {
        return fail(d, d->at, "a number that begins with 0");
    }
    return fail(d, d->at, "a malformed number");
}

static int decode_number(decoder *d)
{
    const char *at = d->at;
    bool negative = *at == '-';
    const char *digits = at + negative;
    int64_t integer = 0;
    double value;
    size_t width;

    for (at = digits; at < d->end && (unsigned char)(*at - '0') < 10 &&
                      at - digits < SHORT_INTEGER;
         at++) {
        integer = integer * 10 + (*at - '0');
    }
    if (at > digits && (*digits != '0' || at == digits + 1) &&
        (at == d->end || ((unsigned char)(*at - '0') >= 10 && *at != '.' &&
                          (*at | 0x20) != 'e'))) {
        value = (double)integer;
        lua_pushnumber(d->L, negative ? -value : value);
        d->at = at;
        return 0;
    }
    width = peri_number_read(d->at, (size_t)(d->end - d->at), &value);
    if (width == 0) {
        return fail_number(d);
    }
    if (isinf(value)) {
        return fail(d, d->at, "a number too large");
    }
    lua_pushnumber(d->L, value);
    d->at += width;
    return 0;
}

static bool take_word(decoder *d, const char *word, size_t length)
{
    if ((size_t)(d->end - d->at) < length || memcmp(d->at, word, length) != 0) {
        return false;
    }
    d->at += length;
    return true;
}

static int make_room(decoder *d, int slots)
{
    if (lua_checkstack(d->L, slots + 8) == 0) {
        return fail(d, d->at, "nested too deep for the Lua stack");
    }
    return 0;
}

static int enter(decoder *d, int slots)
{
    if (d->depth >= d->depth_max) {
        lua_pushfstring(d->L, "nested deeper than %d", d->depth_max);
        return fail(d, d->at - 1, lua_tostring(d->L, -1));
    }
    d->depth++;
    return make_room(d, slots);
}

/* Puts a table in the place of the gathered values at the top. */
static void gather_items(decoder *d, int base, int count, bool more)
{
    lua_State *L = d->L;

    lua_createtable(L, more ? count * 2 : count, 0);
    perilua_json_push_array_mark(L);
    lua_setmetatable(L, -2);
    lua_insert(L, base);
    for (int i = count; i > 0; i--) {
        lua_rawseti(L, base, i);
    }
}

static int decode_items(decoder *d, int base, int gather)
{
    lua_State *L = d->L;
    int count = 0;
    bool made = gather == 0;

    if (made) {
        gather_items(d, base, 0, false);
    }
    for (;;) {
        int rc;

        skip_space(d);
        rc = decode_value(d);
        if (rc < 0) {
            return rc;
        }
        count++;
        if (made) {
            lua_rawseti(L, base, count);
        } else if (count == gather) {
            gather_items(d, base, count, true);
            made = true;
        } else if (count == FIRST_ITEMS && make_room(d, gather - count) < 0) {
            return PERI_EFORMAT;
        }
        skip_space(d);
        if (d->at < d->end && *d->at == ',') {
            d->at++;
            continue;
        }
        if (d->at < d->end && *d->at == ']') {
            d->at++;
            break;
        }
        return fail_expected(d, "',' or ']'");
    }
    if (!made) {
        gather_items(d, base, count, false);
    }
    return 0;
}

/* at is behind the opening bracket. */
static int decode_array(decoder *d)
{
    int gather = d->depth < GATHER_DEPTH ? GATHER_ITEMS : 0;
    int base = lua_gettop(d->L) + 1;
    int rc = enter(d, gather > 0 ? FIRST_ITEMS : 0);

    if (rc < 0) {
        return rc;
    }
    skip_space(d);
    if (d->at < d->end && *d->at == ']') {
        d->at++;
        gather_items(d, base, 0, false);
    } else {
        rc = decode_items(d, base, gather);
    }
    d->depth--;
    return rc;
}

/* Keys and values in turn from base on become a table. In their order, so that
 * the last of equal keys wins. */
static void gather_fields(decoder *d, int base, int count, bool more)
{
    lua_State *L = d->L;

    lua_createtable(L, 0, more ? count * 2 : count);
    if (count == 1) {
        lua_insert(L, base);
        lua_rawset(L, base);
        return;
    }
    for (int i = 0; i < count; i++) {
        lua_pushvalue(L, base + 2 * i);
        lua_pushvalue(L, base + 2 * i + 1);
        lua_rawset(L, -3);
    }
    if (count != 0) {
        lua_replace(L, base);
        lua_settop(L, base);
    }
}

/* "key": value, both pushed. */
static int decode_field(decoder *d)
{
    int rc;

    skip_space(d);
    if (d->at >= d->end || *d->at != '"') {
        return fail_expected(d, "a name in quotes");
    }
    d->at++;
    rc = decode_string(d);
    if (rc < 0) {
        return rc;
    }
    skip_space(d);
    if (d->at >= d->end || *d->at != ':') {
        return fail_expected(d, "':'");
    }
    d->at++;
    skip_space(d);
    return decode_value(d);
}

static int decode_fields(decoder *d, int base, int gather)
{
    lua_State *L = d->L;
    int count = 0;
    bool made = gather == 0;

    if (made) {
        gather_fields(d, base, 0, false);
    }
    for (;;) {
        int rc = decode_field(d);

        if (rc < 0) {
            return rc;
        }
        count++;
        if (made) {
            lua_rawset(L, base);
        } else if (count == gather) {
            gather_fields(d, base, count, true);
            made = true;
        } else if (count == FIRST_PAIRS &&
                   make_room(d, 2 * (gather - count)) < 0) {
            return PERI_EFORMAT;
        }
        skip_space(d);
        if (d->at < d->end && *d->at == ',') {
            d->at++;
            continue;
        }
        if (d->at < d->end && *d->at == '}') {
            d->at++;
            break;
        }
        return fail_expected(d, "',' or '}'");
    }
    if (!made) {
        gather_fields(d, base, count, false);
    }
    return 0;
}

/* at is behind the opening brace. */
static int decode_object(decoder *d)
{
    int gather = d->depth < GATHER_DEPTH ? GATHER_PAIRS : 0;
    int base = lua_gettop(d->L) + 1;
    int rc = enter(d, gather > 0 ? 2 * FIRST_PAIRS : 0);

    if (rc < 0) {
        return rc;
    }
    skip_space(d);
    if (d->at < d->end && *d->at == '}') {
        d->at++;
        lua_createtable(d->L, 0, 0);
    } else {
        rc = decode_fields(d, base, gather);
    }
    d->depth--;
    return rc;
}

static int decode_word(decoder *d)
{
    if (take_word(d, "null", 4)) {
        perilua_json_push_null(d->L);
    } else if (take_word(d, "true", 4)) {
        lua_pushboolean(d->L, 1);
    } else if (take_word(d, "false", 5)) {
        lua_pushboolean(d->L, 0);
    } else {
        return fail_expected(d, "a value");
    }
    return 0;
}

/* There is no white space at at. */
static int decode_value(decoder *d)
{
    if (d->at >= d->end) {
        return fail_expected(d, "a value");
    }
    switch (*d->at) {
    case '"':
        d->at++;
        return decode_string(d);
    case '{':
        d->at++;
        return decode_object(d);
    case '[':
        d->at++;
        return decode_array(d);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return decode_number(d);
    default:
        return decode_word(d);
    }
}

static int decode_text(decoder *d)
{
    int rc;

    if (d->end - d->at >= 3 && memcmp(d->at, "\xef\xbb\xbf", 3) == 0) {
        return fail(d, d->at, "a byte order mark");
    }
    skip_space(d);
    rc = decode_value(d);
    if (rc < 0) {
        return rc;
    }
    skip_space(d);
    return d->at == d->end ? 0 : fail(d, d->at, "more text behind the value");
}

int perilua_json_decode_depth(lua_State *L, peri_slice text, int depth_max)
{
    decoder d = {.L = L,
                 .start = text.data,
                 .at = text.data,
                 .end = text.data + text.length,
                 .depth_max = depth_max < PERILUA_JSON_DEPTH_MAX
                                  ? depth_max
                                  : PERILUA_JSON_DEPTH_MAX};
    int top = lua_gettop(L);
    int rc;

    if (text.length == 0) {
        d.start = d.at = d.end = "";
    }
    lua_checkstack(L, 8);
    rc = decode_text(&d);
    if (rc < 0) {
        lua_insert(L, top + 1); /* the message, in front of what was left */
        lua_settop(L, top + 1);
    }
    return rc;
}

int perilua_json_decode(lua_State *L, peri_slice text)
{
    return perilua_json_decode_depth(L, text, PERILUA_JSON_DEPTH_MAX);
}
