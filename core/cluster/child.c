/* Child: fork, exec, wait. */
#include "core/cluster/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FDS_MAX 4

/* After fork(): async-signal-safe calls only. */

static void child_signals(void)
{
    static const int ignored[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGPIPE,
                                  SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU};
    struct sigaction action;
    sigset_t none;

    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    for (int signum = 1; signum < NSIG; signum++) {
        sigaction(signum, &action, NULL);
    }
    action.sa_handler = SIG_IGN;
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) {
        sigaction(ignored[i], &action, NULL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int child_fds(const peri_spawn *spawn)
{
    int moved[FDS_MAX];
    int count = 0;

    /* First out of the way, so that no target overwrites a source. */
    while (count < FDS_MAX && spawn->fds[count] >= 0) {
        moved[count] = fcntl(spawn->fds[count], F_DUPFD_CLOEXEC, 64);
        if (moved[count] < 0) {
            return -1;
        }
        count++;
    }
    for (int i = 0; i < count; i++) {
        if (dup2(moved[i], 3 + i) < 0) {
            return -1;
        }
    }
    if (spawn->quiet) {
        int null = open("/dev/null", O_RDONLY);

        if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
            dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
            return -1;
        }
        if (null > STDERR_FILENO && null >= 3 + count) {
            close(null);
        }
    }
    return 0;
}

static void child_main(const peri_spawn *spawn)
{
    static const char failed[] = "perigee: cannot start a process\n";

    child_signals();
    if (child_fds(spawn) == 0) {
        char *const *argv = (char *const *)(uintptr_t)spawn->argv;

        /* The very file this process runs, whatever the name means by now. */
        if (!spawn->fresh) {
            execve("/proc/self/exe", argv, spawn->environment);
        }
        execve(spawn->program, argv, spawn->environment);
    }
    if (write(STDERR_FILENO, failed, sizeof failed - 1) < 0) {
        _exit(126);
    }
    _exit(127);
}

/* ---- the parent ---- */

static peri_child *find_child(peri_children *children, pid_t pid)
{
    for (peri_list *link = children->list.next; link != &children->list;
         link = link->next) {
        peri_child *child = PERI_CONTAINER(link, peri_child, link);

        if (child->pid == (int)pid) {
            return child;
        }
    }
    return NULL;
}

static void on_sigchld(uv_signal_t *handle, int signum)
{
    peri_children *children = handle->data;
    struct rusage usage;
    int status;
    pid_t pid;

    (void)signum;
    /* Of all: a program that this one has replaced may have left some. */
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        peri_child *child = find_child(children, pid);

        if (child != NULL) {
            peri_list_remove(&child->link);
            child->pid = 0;
            child->on_exit(child, status, &usage);
        }
    }
}

int peri_children_init(peri_children *children, uv_loop_t *loop)
{
    int rc = uv_signal_init(loop, &children->signal);

    peri_list_init(&children->list);
    children->signal.data = children;
    if (rc < 0) {
        return rc;
    }
    rc = uv_signal_start(&children->signal, on_sigchld, SIGCHLD);
    uv_unref((uv_handle_t *)&children->signal);
    return rc;
}

void peri_children_close(peri_children *children)
{
    uv_close((uv_handle_t *)&children->signal, NULL);
}

int peri_child_start(peri_children *children, peri_child *child,
                     const peri_spawn *spawn)
{
    sigset_t all;
    sigset_t before;
    pid_t pid;
    int rc = 0;

    /* A signal that reached the child before exec would be written into our
     * own loop's pipe. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = fork();
    if (pid == 0) {
        child_main(spawn);
    }
    if (pid < 0) {
        rc = -errno;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc < 0) {
        return rc;
    }
    child->pid = (int)pid;
    peri_list_append(&children->list, &child->link);
    return 0;
}
