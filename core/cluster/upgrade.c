/* Upgrade: a new binary on the same listeners (USR2). */
#include "core/cluster/master_state.h"

void peri_upgrade(peri_master *master)
{
    peri_log(&master->logger, PERI_LOG_ERROR,
             "USR2: a new binary is not taken over by a running host yet");
}
