/* Cluster: a real master with real workers, and an application in C.
 *
 * This program is all three: the tests, the master they start, and (with the
 * hidden words `worker` and `stage`) what the master starts. The application is
 * the file scripts/answer of a temporary directory: what it holds is what every
 * path answers; some words in it misbehave (see app_stage). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/alloc.h"
#include "core/base/bundle.h"
#include "core/base/clock.h"
#include "core/base/settings.h"
#include "core/cluster/control.h"
#include "core/cluster/master.h"
#include "core/cluster/worker.h"

#define WAIT_MS 10000
#define OUT_BYTES 65536

/* ---- the application ---- */

typedef struct test_app {
    peri_worker_info info;
    peri_http_app http;
    char text[256]; /* what it answers */
    char staged[256];
    uint64_t generation;
    uint64_t staged_generation;
} test_app;

typedef struct slow_answer {
    uv_timer_t timer;
    peri_exchange *exchange;
} slow_answer;

static void on_slow_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_slow(uv_timer_t *timer)
{
    slow_answer *slow = timer->data;

    peri_exchange_answer(slow->exchange, 200, PERI_SLICE("text/plain"), NULL, 0,
                         PERI_SLICE("slow"));
    peri_exchange_unref(slow->exchange);
    uv_close((uv_handle_t *)timer, on_slow_closed);
}

static void answer_slowly(test_app *app, peri_exchange *ex, uint64_t ms)
{
    slow_answer *slow = peri_calloc(1, sizeof *slow);

    peri_exchange_keep(ex);
    peri_exchange_ref(ex);
    slow->exchange = ex;
    uv_timer_init(app->info.loop, &slow->timer);
    slow->timer.data = slow;
    uv_timer_start(&slow->timer, on_slow, ms, 0);
    peri_log(app->info.logger, PERI_LOG_INFO, "it has begun");
}

static void on_request(void *data, peri_exchange *ex)
{
    test_app *app = data;
    peri_slice path = peri_exchange_text(ex, ex->path);
    char text[512];
    int n;

    if (atomic_load(app->info.generation) == app->staged_generation) {
        memcpy(app->text, app->staged, sizeof app->text);
        app->generation = app->staged_generation;
    }
    if (peri_slice_equal(path, PERI_SLICE("/crash"))) {
        abort();
    }
    if (peri_slice_equal(path, PERI_SLICE("/spin"))) {
        snprintf(app->info.doing_route, 128, "/spin");
        for (;;) {
        }
    }
    if (peri_slice_starts(path, PERI_SLICE("/slow/"))) {
        answer_slowly(app, ex, (uint64_t)atoi(path.data + 6));
        return;
    }
    n = snprintf(text, sizeof text, "%s %d %llu", app->text, (int)getpid(),
                 (unsigned long long)app->generation);
    peri_exchange_answer(ex, 200, PERI_SLICE("text/plain"), NULL, 0,
                         peri_slice_of(text, (size_t)n));
}

static void on_gone(void *data, peri_exchange *ex)
{
    (void)data;
    (void)ex;
}

static void *app_create(const peri_worker_info *info)
{
    test_app *app = peri_calloc(1, sizeof *app);

    app->info = *info;
    app->http = (peri_http_app){
        .data = app, .on_request = on_request, .on_gone = on_gone};
    peri_log(info->logger, PERI_LOG_INFO, "application made");
    return app;
}

static void app_stage(void *data, uint64_t generation, int bundle_fd,
                      void (*done)(void *data, const char *error), void *arg)
{
    test_app *app = data;
    peri_bundle *bundle;
    peri_slice text;
    int rc = peri_bundle_open(bundle_fd, &bundle);

    close(bundle_fd);
    if (rc < 0) {
        done(arg, "no bundle");
        return;
    }
    text = peri_bundle_find(bundle, "scripts/answer");
    snprintf(app->staged, sizeof app->staged, "%s",
             text.data != NULL ? text.data : "");
    app->staged_generation = generation;
    peri_bundle_close(bundle);
    if (strcmp(app->staged, "bad") == 0) {
        done(arg, "scripts/answer:1: bad");
    } else if (strcmp(app->staged, "bad-in-1") == 0 && app->info.slot == 1) {
        done(arg, "scripts/answer:1: bad in worker 1");
    } else if (strcmp(app->staged, "die") == 0) {
        abort();
    } else if (strcmp(app->staged, "exit") == 0) {
        _exit(3);
    } else if (strcmp(app->staged, "exit-late") == 0) {
        peri_log(app->info.logger, PERI_LOG_INFO, "about to exit");
        usleep(300000);
        _exit(3);
    } else if (strcmp(app->staged, "hang") != 0) {
        done(arg, NULL);
    }
}

static void app_abandon(void *data, uint64_t generation)
{
    test_app *app = data;

    (void)generation;
    app->staged_generation = 0;
}

static void app_commit(void *data, uint64_t generation)
{
    test_app *app = data;

    if (generation == app->staged_generation) {
        memcpy(app->text, app->staged, sizeof app->text);
        app->generation = generation;
    }
}

static const peri_http_app *app_http(void *data)
{
    return &((test_app *)data)->http;
}

static void app_destroy(void *data, void (*done)(void *data), void *arg)
{
    test_app *app = data;

    peri_log(app->info.logger, PERI_LOG_INFO, "application destroyed");
    free(app);
    done(arg);
}

static const peri_worker_app worker_app = {
    .create = app_create,
    .stage = app_stage,
    .abandon = app_abandon,
    .commit = app_commit,
    .http = app_http,
    .destroy = app_destroy,
};

/* ---- the stage process ---- */

static int make_bundle(const char *dir)
{
    peri_bundle_builder *builder = peri_bundle_builder_create();
    char path[512];
    char text[4096];
    char why[256];
    FILE *file;
    size_t n = 0;
    int fd = -1;

    snprintf(path, sizeof path, "%s/settings", dir);
    file = fopen(path, "r");
    if (file != NULL) {
        n = fread(text, 1, sizeof text, file);
        fclose(file);
    }
    peri_bundle_add(builder, "@settings", peri_slice_of(text, n));
    peri_bundle_add(builder, "@env", PERI_SLICE("test"));
    peri_bundle_add_tree(builder, dir, "scripts", why, sizeof why);
    peri_bundle_finish(builder, &fd);
    peri_bundle_builder_destroy(builder);
    return fd;
}

static int stage_main(void)
{
    static const char fault[] = "scripts/answer:1: syntax error\n";
    char piece[65536];
    char cwd[512];
    peri_bundle *bundle;
    ssize_t n;
    int code = 0;
    int fd;

    if (getcwd(cwd, sizeof cwd) == NULL) {
        return 1;
    }
    fd = make_bundle(cwd);
    if (peri_bundle_open(fd, &bundle) == 0) {
        peri_slice text = peri_bundle_find(bundle, "scripts/answer");

        if (text.data != NULL && strcmp(text.data, "syntax") == 0) {
            code = write(4, fault, sizeof fault - 1) > 0 ? 78 : 1;
        }
        peri_bundle_close(bundle);
    }
    lseek(fd, 0, SEEK_SET);
    while (code == 0 && (n = read(fd, piece, sizeof piece)) > 0) {
        code = write(3, piece, (size_t)n) == n ? 0 : 1;
    }
    close(fd);
    return code;
}

/* ---- a host under test ---- */

typedef struct host {
    char dir[64];
    int pid;
    int out_fd; /* what it prints */
    int port;
    int admin_port;
    size_t length;
    char out[OUT_BYTES];
} host;

static void put(const host *h, const char *name, const char *text)
{
    char path[256];
    char temporary[280];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", h->dir, name);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    file = fopen(temporary, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(rename(temporary, path), 0);
}

static void run_master(const host *h, int out_fd, bool dev)
{
    const char *argv[] = {"test_cluster", "stage", NULL};
    int code;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out_fd, STDOUT_FILENO);
    dup2(out_fd, STDERR_FILENO);
    if (chdir(h->dir) < 0) {
        _exit(99);
    }
    code = peri_master_run(&(peri_master_options){
        .dir = h->dir,
        .env = "test",
        .program = "/proc/self/exe",
        .stage_argv = argv,
        .bundle_fd = make_bundle(h->dir),
        .dev = dev,
    });
    exit(code); /* not _exit: the sanitizer looks for leaks now */
}

static void prepare(host *h, const char *answer, const char *settings)
{
    char path[128];
    char text[2048];

    memset(h, 0, sizeof *h);
    snprintf(h->dir, sizeof h->dir, "/tmp/perigee-cluster-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    snprintf(path, sizeof path, "%s/scripts", h->dir);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(text, sizeof text,
             "http.port\t0\nadmin.port\t0\ncluster.workers\t2\n"
             "log.level\tdebug\nreload.selfcheck_timeout\t1000\n%s",
             settings);
    put(h, "settings", text);
    put(h, "scripts/answer", answer);
}

static void launch(host *h, bool dev)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fflush(NULL);
    h->pid = fork();
    assert_true(h->pid >= 0);
    if (h->pid == 0) {
        run_master(h, ends[1], dev);
    }
    close(ends[1]);
    h->out_fd = ends[0];
    fcntl(h->out_fd, F_SETFL, O_NONBLOCK);
}

/* Reads what it prints for some ms. */
static void listen_for(host *h, int ms)
{
    struct pollfd wanted = {.fd = h->out_fd, .events = POLLIN};

    if (poll(&wanted, 1, ms) > 0 && h->length < OUT_BYTES - 1) {
        ssize_t n =
            read(h->out_fd, h->out + h->length, OUT_BYTES - 1 - h->length);

        if (n > 0) {
            h->length += (size_t)n;
            h->out[h->length] = '\0';
        } else if (n == 0) {
            usleep(1000);
        }
    }
}

/* Where the text stands in what it printed from `from` on; fails when it does
 * not come. */
static const char *expect_from(host *h, const char *from, const char *text)
{
    uint64_t end = peri_clock_monotonic_ns() + WAIT_MS * 1000000ull;
    const char *found;

    while ((found = strstr(from, text)) == NULL) {
        if (peri_clock_monotonic_ns() > end) {
            fail_msg("no \"%s\" in:\n%s", text, h->out);
        }
        listen_for(h, 20);
    }
    return found;
}

static const char *expect(host *h, const char *text)
{
    return expect_from(h, h->out, text);
}

static int port_in(host *h, const char *at)
{
    const char *port = expect_from(h, at, "\"port\":");

    return atoi(port + 7);
}

/* Of the two lines that tell of a listener. */
static void find_ports(host *h)
{
    const char *main_line = expect(h, "\"workers\":");
    const char *admin_line = expect(h, "\"admin\":true");

    while (main_line > h->out && main_line[-1] != '\n') {
        main_line--;
    }
    h->port = port_in(h, main_line);
    h->admin_port = port_in(h, admin_line);
}

static void start(host *h, const char *answer, const char *settings)
{
    prepare(h, answer, settings);
    launch(h, false);
    find_ports(h);
}

/* Its exit code, or 1000 + signal. */
static int wait_end(host *h)
{
    uint64_t end = peri_clock_monotonic_ns() + WAIT_MS * 1000000ull;
    int status;

    while (waitpid(h->pid, &status, WNOHANG) == 0) {
        if (peri_clock_monotonic_ns() > end) {
            kill(h->pid, SIGKILL);
            fail_msg("it does not end:\n%s", h->out);
        }
        listen_for(h, 10);
    }
    listen_for(h, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void clean(host *h)
{
    char command[128];

    close(h->out_fd);
    snprintf(command, sizeof command, "rm -rf '%s'", h->dir);
    assert_int_equal(system(command), 0);
}

static void stop(host *h)
{
    int code;

    kill(h->pid, SIGTERM);
    code = wait_end(h);
    if (code != 0) {
        fail_msg("exit code %d:\n%s", code, h->out);
    }
    clean(h);
}

/* ---- a client ---- */

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void send_get(int fd, const char *path)
{
    char text[256];
    int n = snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                     path);

    send(fd, text, (size_t)n, MSG_NOSIGNAL);
}

/* The status and the whole answer; 0: none came. */
static int read_answer(int fd, char *out, size_t out_bytes)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    size_t length = 0;
    ssize_t n = 1;

    while (n > 0 && length < out_bytes - 1 && poll(&wanted, 1, WAIT_MS) > 0) {
        n = read(fd, out + length, out_bytes - 1 - length);
        length += n > 0 ? (size_t)n : 0;
    }
    out[length] = '\0';
    close(fd);
    return length > 12 ? atoi(out + 9) : 0;
}

static int get_from(int port, const char *path, char *out, size_t out_bytes)
{
    int fd = connect_to(port);

    if (fd < 0) {
        out[0] = '\0';
        return -1;
    }
    send_get(fd, path);
    return read_answer(fd, out, out_bytes);
}

static const char *body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");

    return end != NULL ? end + 4 : "";
}

/* What "/" answers: its first word, and who answered. */
static void assert_serves(host *h, const char *word, int *out_pid)
{
    char answer[4096];
    int status = get_from(h->port, "/", answer, sizeof answer);
    size_t length = strlen(word);

    if (status != 200 || strncmp(body_of(answer), word, length) != 0) {
        fail_msg("%d, not \"%s\": %s\n%s", status, word, answer, h->out);
    }
    if (out_pid != NULL) {
        *out_pid = atoi(body_of(answer) + length);
    }
}

static int call(host *h, const char *verb, char *out, size_t out_bytes)
{
    peri_buf text;
    int code;

    peri_buf_init(&text, 1 << 20);
    code = peri_control_call(h->dir, verb, WAIT_MS, &text);
    snprintf(out, out_bytes, "%.*s", (int)text.length,
             text.data != NULL ? text.data : "");
    peri_buf_fini(&text);
    return code;
}

static void assert_call(host *h, const char *verb, int code, const char *text)
{
    char out[8192];
    int got = call(h, verb, out, sizeof out);

    if (got != code || strstr(out, text) == NULL) {
        fail_msg("%s: %d \"%s\", not %d \"%s\"\n%s", verb, got, out, code, text,
                 h->out);
    }
}

/* ---- tests ---- */

static void serves_and_stops(void **state)
{
    host h;

    (void)state;
    start(&h, "hello", "");
    for (int i = 0; i < 20; i++) {
        assert_serves(&h, "hello", NULL);
    }
    assert_call(&h, "status", 0, "\"generation\":1,");
    assert_call(&h, "health", 0, "2 of 2 workers serve");
    kill(h.pid, SIGTERM);
    assert_int_equal(wait_end(&h), 0);
    expect(&h, "\"msg\":\"application destroyed\"");
    expect(&h, "\"msg\":\"stopped\"");
    assert_call(&h, "status", 1, "no host runs in");
    clean(&h);
}

static void a_fault_of_the_first_generation_ends_it(void **state)
{
    host h;

    (void)state;
    prepare(&h, "bad", "");
    launch(&h, false);
    assert_int_equal(wait_end(&h), 78);
    assert_non_null(strstr(h.out, "scripts/answer:1: bad\n"));
    assert_null(strstr(h.out, "\"msg\":\"listening\",\"address\""));
    assert_null(strstr(h.out, "\"workers\":2"));
    clean(&h);
}

static void a_second_host_is_refused_and_a_dead_ones_place_taken(void **state)
{
    host h;
    host second;
    char text[64];

    (void)state;
    start(&h, "hello", "");
    second = h;
    second.length = 0;
    launch(&second, false);
    assert_int_equal(wait_end(&second), 71);
    snprintf(text, sizeof text, "pid %d", h.pid);
    assert_non_null(strstr(second.out, text));
    close(second.out_fd);
    kill(h.pid, SIGKILL);
    wait_end(&h);
    close(h.out_fd);
    h.length = 0;
    h.out[0] = '\0';
    launch(&h, false);
    expect(&h, "\"workers\":2");
    stop(&h);
}

static void a_port_in_use_is_named_with_its_holder(void **state)
{
    host h;
    host second;
    char settings[64];
    char text[64];

    (void)state;
    start(&h, "hello", "");
    snprintf(settings, sizeof settings, "http.port\t%d\n", h.port);
    prepare(&second, "hello", settings);
    launch(&second, false);
    assert_int_equal(wait_end(&second), 71);
    snprintf(text, sizeof text, "port %d is in use by pid ", h.port);
    assert_non_null(strstr(second.out, text));
    clean(&second);
    stop(&h);
}

static void a_killed_worker_is_replaced_and_its_listener_served(void **state)
{
    host h;

    (void)state;
    start(&h, "hello", "");
    for (int round = 0; round < 3; round++) {
        int victim;
        int pid = 0;

        assert_serves(&h, "hello", &victim);
        kill(victim, SIGKILL);
        for (int i = 0; i < 20; i++) {
            assert_serves(&h, "hello", &pid);
            assert_int_not_equal(pid, victim);
        }
    }
    expect(&h, "\"msg\":\"worker ended\"");
    stop(&h);
}

static void a_single_killed_worker_loses_no_waiting_connection(void **state)
{
    host h;

    (void)state;
    start(&h, "hello", "cluster.workers\t1\n");
    for (int round = 0; round < 2; round++) {
        int victim;

        assert_serves(&h, "hello", &victim);
        kill(victim, SIGKILL);
        assert_serves(&h, "hello", NULL); /* waits for the successor */
    }
    stop(&h);
}

/* A busy machine may be late, but not each time. */
static void assert_refused_at_once(host *h)
{
    char answer[4096];
    uint64_t begun;

    for (int tries = 0; tries < 5; tries++) {
        begun = peri_clock_monotonic_ns();
        assert_int_equal(get_from(h->port, "/", answer, sizeof answer), 503);
        assert_non_null(strstr(answer, "Retry-After: 1\r\n"));
        if (peri_clock_monotonic_ns() - begun < 100000000u) {
            return;
        }
    }
    fail_msg("a refusal took over 100 ms, each time");
}

static void a_crash_loop_answers_503_at_once(void **state)
{
    host h;
    char answer[4096];
    uint64_t end;

    (void)state;
    prepare(&h, "exit", "");
    launch(&h, false);
    find_ports(&h);
    expect(&h, "keeps failing");
    for (int i = 0; i < 5; i++) {
        assert_refused_at_once(&h);
    }
    put(&h, "scripts/answer", "mended");
    assert_call(&h, "reload", 0, "generation 2 serves");
    end = peri_clock_monotonic_ns() + WAIT_MS * 1000000ull;
    while (get_from(h.port, "/", answer, sizeof answer) != 200) {
        assert_true(peri_clock_monotonic_ns() < end);
        listen_for(&h, 10);
    }
    assert_serves(&h, "mended", NULL);
    stop(&h);
}

static void what_has_never_served_is_not_cut_off(void **state)
{
    host h;

    (void)state;
    prepare(&h, "exit-late", "");
    launch(&h, false);
    find_ports(&h);
    expect(&h, "about to exit");
    stop(&h); /* so that workers exit while they are to leave */
}

static void a_reload_is_committed_everywhere_or_nowhere(void **state)
{
    static const char *const bad[][2] = {
        {"syntax", "scripts/answer:1: syntax error"},
        {"bad", "scripts/answer:1: bad"},
        {"bad-in-1", "scripts/answer:1: bad in worker 1"},
        {"hang", "was not ready within reload.selfcheck_timeout"},
        {"die", "died while it loaded the new code"},
    };
    host h;

    (void)state;
    start(&h, "one", "");
    put(&h, "scripts/answer", "two");
    assert_call(&h, "reload", 0, "generation 2 serves");
    for (int i = 0; i < 10; i++) {
        assert_serves(&h, "two", NULL);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put(&h, "scripts/answer", bad[i][0]);
        assert_call(&h, "reload", 3, bad[i][1]);
        for (int n = 0; n < 10; n++) {
            assert_serves(&h, "two", NULL);
        }
    }
    assert_call(&h, "status", 0, "\"result\":\"refused\"");
    put(&h, "scripts/answer", "three");
    kill(h.pid, SIGHUP);
    expect(&h, "\"msg\":\"reload committed\"");
    expect(&h, "\"cause\":\"signal\"");
    for (int n = 0; n < 10; n++) {
        assert_serves(&h, "three", NULL);
    }
    assert_call(&h, "rollback", 0, "serves");
    assert_serves(&h, "two", NULL);
    stop(&h);
}

static void a_restarted_worker_serves_what_was_committed(void **state)
{
    host h;
    int pid;

    (void)state;
    start(&h, "one", "cluster.workers\t1\n");
    put(&h, "scripts/answer", "bad");
    assert_serves(&h, "one", &pid);
    kill(pid, SIGKILL);
    assert_serves(&h, "one", NULL);
    stop(&h);
}

static void files_are_watched_in_development(void **state)
{
    host h;

    (void)state;
    prepare(&h, "one", "cluster.workers\t1\n");
    launch(&h, true);
    find_ports(&h);
    assert_serves(&h, "one", NULL);
    put(&h, "scripts/answer", "two");
    expect(&h, "\"cause\":\"watch\"");
    assert_serves(&h, "two", NULL);
    put(&h, "scripts/answer", "syntax");
    expect(&h, "scripts/answer:1: syntax error");
    assert_serves(&h, "two", NULL);
    stop(&h);
}

static void wait_until_refused(host *h)
{
    uint64_t end = peri_clock_monotonic_ns() + WAIT_MS * 1000000ull;
    int fd;

    while ((fd = connect_to(h->port)) >= 0) {
        close(fd);
        assert_true(peri_clock_monotonic_ns() < end);
        listen_for(h, 10);
    }
}

static void requests_in_flight_are_answered_before_the_end(void **state)
{
    host h;
    char answer[4096];
    int fd;

    (void)state;
    start(&h, "hello", "");
    fd = connect_to(h.port);
    send_get(fd, "/slow/400");
    expect(&h, "it has begun");
    kill(h.pid, SIGTERM);
    wait_until_refused(&h);
    assert_int_equal(read_answer(fd, answer, sizeof answer), 200);
    assert_int_equal(wait_end(&h), 0);
    clean(&h);
}

static void the_deadline_cuts_off_what_is_too_slow(void **state)
{
    host h;
    int fd;

    (void)state;
    start(&h, "hello", "shutdown.timeout\t500\n");
    fd = connect_to(h.port);
    send_get(fd, "/slow/60000");
    expect(&h, "it has begun");
    kill(h.pid, SIGTERM);
    assert_int_equal(wait_end(&h), 1); /* within WAIT_MS: not the default */
    close(fd);
    clean(&h);
}

static void a_second_signal_ends_at_once(void **state)
{
    host h;
    int fd;

    (void)state;
    start(&h, "hello", "");
    fd = connect_to(h.port);
    send_get(fd, "/slow/60000");
    expect(&h, "it has begun");
    kill(h.pid, SIGINT);
    expect(&h, "stopping: SIGINT");
    kill(h.pid, SIGINT);
    assert_int_equal(wait_end(&h), 1);
    close(fd);
    clean(&h);
}

static void while_leaving_readiness_fails_and_requests_are_served(void **state)
{
    host h;
    char answer[4096];

    (void)state;
    start(&h, "hello", "shutdown.drain_delay\t2000\n");
    assert_int_equal(get_from(h.admin_port, "/readyz", answer, sizeof answer),
                     200);
    kill(h.pid, SIGTERM);
    expect(&h, "stopping: SIGTERM");
    assert_int_equal(
        get_from(h.admin_port, "/readyz?verbose", answer, sizeof answer), 503);
    assert_non_null(strstr(answer, "[-] running: stopping"));
    assert_int_equal(get_from(h.admin_port, "/livez", answer, sizeof answer),
                     200);
    assert_serves(&h, "hello", NULL);
    assert_int_equal(wait_end(&h), 0);
    clean(&h);
}

static void workers_come_and_go_by_signal(void **state)
{
    host h;

    (void)state;
    start(&h, "hello", "");
    kill(h.pid, SIGTTIN);
    expect(&h, "one worker more: 3");
    for (int i = 0; i < 30; i++) {
        assert_serves(&h, "hello", NULL);
    }
    kill(h.pid, SIGTTOU);
    kill(h.pid, SIGTTOU);
    expect(&h, "one worker less: ");
    for (int i = 0; i < 300; i++) {
        assert_serves(&h, "hello", NULL);
    }
    stop(&h);
}

static void workers_ignore_what_is_the_masters(void **state)
{
    host h;
    int pid;
    int after;

    (void)state;
    start(&h, "hello", "cluster.workers\t1\n");
    assert_serves(&h, "hello", &pid);
    kill(pid, SIGHUP);
    kill(pid, SIGUSR1);
    kill(pid, SIGINT);
    usleep(20000);
    assert_serves(&h, "hello", &after);
    assert_int_equal(after, pid);
    kill(pid, SIGTERM); /* drains, and is replaced */
    for (int i = 0; i < 50; i++) {
        assert_serves(&h, "hello", &after);
    }
    assert_int_not_equal(after, pid);
    stop(&h);
}

static void a_stuck_worker_is_found_and_named(void **state)
{
    host h;
    int fd;

    (void)state;
    start(&h, "hello", "cluster.watchdog\t400\n");
    fd = connect_to(h.port);
    send_get(fd, "/spin");
    expect(&h, "watchdog: a worker is stuck and is killed");
    expect(&h, "\"route\":\"/spin\"");
    close(fd);
    assert_serves(&h, "hello", NULL);
    stop(&h);
}

static void a_worker_that_has_served_enough_is_replaced(void **state)
{
    host h;

    (void)state;
    start(&h, "hello", "cluster.workers\t1\ncluster.max_requests\t20\n");
    for (int i = 0; i < 100; i++) {
        assert_serves(&h, "hello", NULL);
    }
    expect(&h, "replaced");
    stop(&h);
}

static void workers_end_with_their_master(void **state)
{
    host h;
    int pid;

    (void)state;
    start(&h, "hello", "cluster.workers\t1\n");
    assert_serves(&h, "hello", &pid);
    kill(h.pid, SIGKILL);
    wait_end(&h);
    for (int i = 0; i < 500 && kill(pid, 0) == 0; i++) {
        usleep(10000);
    }
    assert_int_equal(kill(pid, 0), -1);
    clean(&h);
}

/* The value of a sample that starts with this text. */
static long metric(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at != NULL ? atol(at + strlen(name)) : -1;
}

static void metrics_count_what_the_dead_did(void **state)
{
    static char answer[OUT_BYTES];
    host h;
    int pid;
    long before;

    (void)state;
    start(&h, "hello", "");
    for (int i = 0; i < 20; i++) {
        assert_serves(&h, "hello", &pid);
    }
    before = 0;
    for (int i = 0; i < 100 && before < 20; i++) { /* a turn of the loop late */
        assert_int_equal(
            get_from(h.admin_port, "/metrics", answer, sizeof answer), 200);
        before = metric(answer, "\nperigee_http_requests_total ");
    }
    assert_int_equal(before, 20);
    kill(pid, SIGKILL);
    expect(&h, "\"msg\":\"worker ended\"");
    assert_int_equal(get_from(h.admin_port, "/metrics", answer, sizeof answer),
                     200);
    assert_true(metric(answer, "\nperigee_http_requests_total ") >= before);
    assert_int_equal(
        metric(answer, "\nperigee_worker_restarts_total{reason=\"signal\"} "),
        1);
    assert_int_equal(metric(answer, "\nperigee_generation "), 1);
    assert_true(
        metric(answer, "process_resident_memory_bytes{role=\"master\"} ") > 0);
    stop(&h);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serves_and_stops),
        cmocka_unit_test(a_fault_of_the_first_generation_ends_it),
        cmocka_unit_test(a_second_host_is_refused_and_a_dead_ones_place_taken),
        cmocka_unit_test(a_port_in_use_is_named_with_its_holder),
        cmocka_unit_test(a_killed_worker_is_replaced_and_its_listener_served),
        cmocka_unit_test(a_single_killed_worker_loses_no_waiting_connection),
        cmocka_unit_test(a_crash_loop_answers_503_at_once),
        cmocka_unit_test(what_has_never_served_is_not_cut_off),
        cmocka_unit_test(a_reload_is_committed_everywhere_or_nowhere),
        cmocka_unit_test(a_restarted_worker_serves_what_was_committed),
        cmocka_unit_test(files_are_watched_in_development),
        cmocka_unit_test(requests_in_flight_are_answered_before_the_end),
        cmocka_unit_test(the_deadline_cuts_off_what_is_too_slow),
        cmocka_unit_test(a_second_signal_ends_at_once),
        cmocka_unit_test(while_leaving_readiness_fails_and_requests_are_served),
        cmocka_unit_test(workers_come_and_go_by_signal),
        cmocka_unit_test(workers_ignore_what_is_the_masters),
        cmocka_unit_test(a_stuck_worker_is_found_and_named),
        cmocka_unit_test(a_worker_that_has_served_enough_is_replaced),
        cmocka_unit_test(workers_end_with_their_master),
        cmocka_unit_test(metrics_count_what_the_dead_did),
    };

    if (argc == 2 && strcmp(argv[1], "worker") == 0) {
        return peri_worker_run(&worker_app);
    }
    if (argc == 2 && strcmp(argv[1], "stage") == 0) {
        return stage_main();
    }
    if (argc == 2) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
