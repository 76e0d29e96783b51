#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bird {
    char name[32];
    double mass;
};

static int by_mass(const void *a, const void *b) {
    const struct bird *x = a, *y = b;
    return (x->mass > y->mass) - (x->mass < y->mass);
}

int main(int argc, char **argv) {
    struct bird birds[] = {{"giant", 20.0}, {"bee", 2.0}};
    size_t n = sizeof birds / sizeof *birds;
    qsort(birds, n, sizeof *birds, by_mass);
    for (size_t i = 0; i < n; i++)
        printf("%s %.1f\n", birds[i].name, birds[i].mass);
    return EXIT_SUCCESS;
}
