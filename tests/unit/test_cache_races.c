#include "cache_world.h"
int main(void) { return 0; }
