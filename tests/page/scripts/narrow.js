log.width = innerWidth;
log.theme = document.documentElement.dataset.theme;
log.wide = document.documentElement.scrollWidth - innerWidth;
log.cut = all("#layers .body .r:not([hidden]) > *").filter(c => c.scrollWidth > c.clientWidth + 1 || c.getBoundingClientRect().right > innerWidth).length;
